//! Whose rights the server has: key `user` of `<zeod>`.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, initgroups, setgid, setgroups, setuid};

use super::ServerError;

/// A user's and a group's number.
pub type Owner = (u32, u32);

/// A user whom the system knows, or whose numbers are all that there is.
#[derive(Debug)]
pub struct Identity {
    /// As configured.
    text: String,
    /// The name, where there is one: other groups can have it as a member.
    name: Option<CString>,
    uid: Uid,
    gid: Gid,
    /// The group was chosen, and is not just the user's.
    names_group: bool,
}

impl Identity {
    /// Reads `USER` or `USER:GROUP`; both can be numbers. A user without a
    /// group gets the group that the system has for it.
    pub fn resolve(text: &str) -> Result<Self, ServerError> {
        let refused = |problem: String| ServerError::User {
            user: text.to_owned(),
            problem,
        };
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let known = find_user(user).map_err(&refused)?;
        let uid = match (&known, user.parse()) {
            (Some(known), _) => known.uid,
            (None, Ok(number)) => Uid::from_raw(number),
            (None, Err(_)) => {
                return Err(refused(format!(
                    "this system has no user {user:?}; make one (\"useradd --system\"), or name another"
                )));
            }
        };
        let gid = match (group, &known) {
            (Some(group), _) => find_group(group).map_err(&refused)?,
            (None, Some(known)) => known.gid,
            (None, None) => {
                let problem = format!(
                    "this system has no user with the number {user}; \
                     then a group has to be given, too ({user}:GROUP)"
                );
                return Err(refused(problem));
            }
        };
        let name = known.and_then(|known| CString::new(known.name).ok());
        Ok(Self {
            text: text.to_owned(),
            name,
            uid,
            gid,
            names_group: group.is_some(),
        })
    }

    /// To whom files are given that root makes for the server.
    pub fn owner(&self) -> Owner {
        (self.uid.as_raw(), self.gid.as_raw())
    }

    /// Whether the process has this user's rights already, be it root's or
    /// not. Where no group is named, any will do.
    pub fn is_own(&self) -> bool {
        geteuid() == self.uid && (getegid() == self.gid || !self.names_group)
    }

    /// May this process take the user's rights?
    pub fn check(&self) -> Result<(), ServerError> {
        if self.is_own() || geteuid().is_root() {
            return Ok(());
        }
        Err(self.refused(format!(
            "only root can take another user's rights, and this process runs as user {}; start it \
             as root or as that user, or remove the key",
            geteuid()
        )))
    }

    /// Takes this user's rights for the whole process, for good. Only root can.
    pub fn take(&self) -> Result<(), ServerError> {
        // The C library does each of these for all threads. Groups first:
        // afterwards the right to change them is gone.
        match &self.name {
            Some(name) => initgroups(name, self.gid),
            None => setgroups(&[self.gid]),
        }
        .and_then(|()| setgid(self.gid))
        .and_then(|()| setuid(self.uid))
        .map_err(|error| self.refused(error.to_string()))?;
        if !self.uid.is_root() && setuid(Uid::from_raw(0)).is_ok() {
            return Err(self.refused("the rights of root could be taken back".to_owned()));
        }
        Ok(())
    }

    fn refused(&self, problem: String) -> ServerError {
        ServerError::User {
            user: self.text.clone(),
            problem,
        }
    }
}

fn find_user(text: &str) -> Result<Option<User>, String> {
    let by_name = User::from_name(text).map_err(|error| format!("looking {text:?} up: {error}"))?;
    match (by_name, text.parse()) {
        (None, Ok(number)) => User::from_uid(Uid::from_raw(number))
            .map_err(|error| format!("looking user {number} up: {error}")),
        (by_name, _) => Ok(by_name),
    }
}

fn find_group(text: &str) -> Result<Gid, String> {
    let by_name =
        Group::from_name(text).map_err(|error| format!("looking {text:?} up: {error}"))?;
    match (by_name, text.parse()) {
        (Some(group), _) => Ok(group.gid),
        (None, Ok(number)) => Ok(Gid::from_raw(number)),
        (None, Err(_)) => Err(format!("this system has no group {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        Identity::resolve(text).unwrap_err().to_string()
    }

    #[test]
    fn names_and_numbers_are_resolved() {
        let root = Identity::resolve("root").unwrap();
        assert_eq!(root.owner(), (0, 0));
        assert!(root.name.is_some());
        assert_eq!(Identity::resolve("0").unwrap().owner(), (0, 0));
        assert!(Identity::resolve("0").unwrap().name.is_some());
        assert_eq!(Identity::resolve("root:12345").unwrap().owner(), (0, 12345));
        // Numbers that nobody has will do, if both are there.
        let numbers = Identity::resolve("4123456:4123457").unwrap();
        assert_eq!(numbers.owner(), (4_123_456, 4_123_457));
        assert!(numbers.name.is_none());
        let group = Group::from_gid(Gid::from_raw(0)).unwrap().unwrap().name;
        assert_eq!(
            Identity::resolve(&format!("4123456:{group}"))
                .unwrap()
                .owner(),
            (4_123_456, 0)
        );
    }

    #[test]
    fn what_cannot_be_resolved_is_named() {
        let unknown = problem("no-such-user");
        assert_eq!(
            unknown,
            "<zeod> user no-such-user: this system has no user \"no-such-user\"; make one \
             (\"useradd --system\"), or name another"
        );
        assert!(problem("root:no-such-group").contains("no group \"no-such-group\""));
        assert!(problem("4123456").contains("4123456:GROUP"));
        assert!(problem("").contains("no user \"\""));
        assert!(problem("root:").contains("no group \"\""));
    }

    #[test]
    fn whoever_has_the_rights_keeps_them() {
        let own = format!("{}:{}", geteuid(), getegid());
        let own = Identity::resolve(&own).unwrap();
        assert!(own.is_own());
        own.check().unwrap();
        let other_group = format!("{}:4123457", geteuid());
        assert!(!Identity::resolve(&other_group).unwrap().is_own());
    }
}
