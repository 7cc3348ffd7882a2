//! `zeod init DIR`: a directory with all that a server needs, as Python's
//! `mkzeoinstance` makes it.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nix::unistd::{User, geteuid};

use super::{EXIT_FAILURE, EXIT_USAGE};
use crate::config::Address;
use crate::server::{Identity, Owner};

/// Read and written by the server alone: databases have no other protection.
const PRIVATE: u32 = 0o700;
const PUBLIC: u32 = 0o755;
const SCRIPT: u32 = 0o755;
const TEXT: u32 = 0o644;

/// Whether a directory is the server's own.
const DIRECTORIES: [(&str, u32, bool); 4] = [
    ("etc", PUBLIC, false),
    ("bin", PUBLIC, false),
    ("var", PRIVATE, true),
    ("log", PUBLIC, true),
];

const FILES: [(&str, u32, &str); 4] = [
    ("etc/zeo.conf", TEXT, include_str!("zeo.conf.in")),
    ("etc/zeod.service", TEXT, include_str!("zeod.service.in")),
    ("bin/zeoctl", SCRIPT, include_str!("zeoctl.in")),
    ("bin/runzeo", SCRIPT, include_str!("runzeo.in")),
];

/// The command.
#[derive(Debug, Args)]
pub struct Init {
    /// Where; made if it is not there. Nothing that is there is overwritten
    directory: PathBuf,

    /// Where clients connect: PORT, HOST:PORT, or the path of a unix socket
    #[arg(short, long, default_value = "127.0.0.1:8100")]
    address: Address,

    /// As whom the server runs: USER or USER:GROUP; var and log are then theirs
    #[arg(short, long)]
    user: Option<String>,

    /// Keep blobs in var/blobs (the default)
    #[arg(long, overrides_with = "no_blobs")]
    blobs: bool,

    /// Take no blobs
    #[arg(long)]
    no_blobs: bool,
}

impl Init {
    /// Does it.
    pub fn run(&self) -> ExitCode {
        let (program, owner) = match self.check() {
            Ok(checked) => checked,
            Err(problem) => {
                eprintln!("zeod: {problem}");
                return ExitCode::from(EXIT_USAGE);
            }
        };
        match self.make(&program, owner) {
            Ok(instance) => {
                print!("{}", next_steps(&instance));
                ExitCode::SUCCESS
            }
            Err(problem) => {
                eprintln!("zeod: {problem}");
                ExitCode::from(EXIT_FAILURE)
            }
        }
    }

    fn check(&self) -> Result<(PathBuf, Option<Owner>), String> {
        let owner = match &self.user {
            None => None,
            Some(user) => {
                let identity = Identity::resolve(user).map_err(|error| error.to_string())?;
                identity.check().map_err(|error| error.to_string())?;
                Some(identity.owner())
            }
        };
        let program =
            std::env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
        can_be_written(&program)?;
        Ok((program, owner))
    }

    fn make(&self, program: &Path, owner: Option<Owner>) -> Result<PathBuf, String> {
        let at = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| format!("{path}: {error}")
        };
        let instance = plain(&self.directory).map_err(at(&self.directory))?;
        can_be_written(&instance)?;
        let there: Vec<_> = FILES
            .iter()
            .map(|(name, ..)| instance.join(name))
            .filter(|path| path.symlink_metadata().is_ok())
            .map(|path| path.display().to_string())
            .collect();
        if !there.is_empty() {
            return Err(format!(
                "there is something already, and nothing was changed: {}",
                there.join(", ")
            ));
        }
        fs::create_dir_all(&instance).map_err(at(&instance))?;
        for (name, mode, is_servers) in DIRECTORIES {
            let path = instance.join(name);
            make_directory(&path, mode, owner.filter(|_| is_servers)).map_err(at(&path))?;
        }
        for (name, mode, template) in FILES {
            let path = instance.join(name);
            let text = self.filled(template, &instance, program);
            make_file(&path, mode, &text).map_err(at(&path))?;
        }
        Ok(instance)
    }

    fn filled(&self, template: &str, instance: &Path, program: &Path) -> String {
        let blob_dir = if self.no_blobs {
            "  # blob-dir $INSTANCE/var/blobs"
        } else {
            "  blob-dir $INSTANCE/var/blobs"
        };
        let zeod = match &self.user {
            Some(user) => format!(
                "<zeod>\n  # As whom the server runs, where root starts it.\n  user {user}\n</zeod>\n"
            ),
            None => "# <zeod>\n#   user zope\n# </zeod>\n".to_owned(),
        };
        template
            .replace("@BLOB_DIR@", blob_dir)
            .replace("@ZEOD@", &zeod)
            .replace("@USER@", &self.unit_user())
            .replace("@ADDRESS@", &self.address.to_string())
            .replace("@PROGRAM@", &program.display().to_string())
            .replace("@INSTANCE@", &instance.display().to_string())
    }

    /// As whom systemd starts the server. It need not be root even for a
    /// moment, so the unit names the user that the configuration names.
    fn unit_user(&self) -> String {
        let own = || {
            let user = User::from_uid(geteuid()).ok().flatten()?;
            (!geteuid().is_root()).then_some(user.name)
        };
        match self.user.clone().or_else(own) {
            Some(user) => match user.split_once(':') {
                Some((user, group)) => format!("User={user}\nGroup={group}"),
                None => format!("User={user}"),
            },
            None => {
                "# It runs as root; better make a user for it, and give that user var and log.\n\
                     # User=zope"
                    .to_owned()
            }
        }
    }
}

/// Configuration, unit and scripts each have their own way to quote; a path
/// that needs none is right in all.
fn can_be_written(path: &Path) -> Result<(), String> {
    let is_plain = |c: char| c.is_alphanumeric() || "/._+-@,=".contains(c);
    let text = path.to_str().unwrap_or("\u{fffd}");
    match text.chars().find(|c| !is_plain(*c)) {
        None => Ok(()),
        Some(c) => Err(format!(
            "{}: {c:?} in a path is more than scripts and units can take; choose a path of letters, \
             digits and ._+-@,=",
            path.display()
        )),
    }
}

/// The path as it stands in files, without `..`: these are resolved where they
/// are, as what is before them may be a link.
fn plain(path: &Path) -> io::Result<PathBuf> {
    let mut made = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        if part == Component::ParentDir {
            made = fs::canonicalize(&made)?;
            made.pop();
        } else {
            made.push(part);
        }
    }
    Ok(made)
}

/// One that is there stays as it is.
fn make_directory(path: &Path, mode: u32, owner: Option<Owner>) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            return Ok(());
        }
        other => other?,
    }
    match owner {
        Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

fn make_file(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(mode))
}

fn next_steps(instance: &Path) -> String {
    let shown = instance.display();
    let name = instance.file_name().and_then(|name| name.to_str());
    let unit = format!("zeod-{}", name.unwrap_or("server"));
    format!(
        "made {shown}\n\
         \n  configuration  {shown}/etc/zeo.conf\
         \n  start          {shown}/bin/zeoctl start\
         \n  log            {shown}/log/zeo.log\n\
         \nor let systemd run it:\n\
         \n  cp {shown}/etc/zeod.service /etc/systemd/system/{unit}.service\
         \n  systemctl daemon-reload\
         \n  systemctl enable --now {unit}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(arguments: &[&str]) -> Init {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            init: Init,
        }
        let line: Line = clap::Parser::parse_from([&["init"], arguments].concat());
        line.init
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let instance = directory.path().join("zeo");
        let init = init(&[instance.to_str().unwrap()]);
        let program = Path::new("/usr/bin/zeod");
        init.make(program, None).unwrap();
        fs::remove_file(instance.join("bin/runzeo")).unwrap();
        fs::write(instance.join("etc/zeo.conf"), "mine").unwrap();
        let problem = init.make(program, None).unwrap_err();
        assert!(problem.contains("etc/zeo.conf"), "{problem}");
        assert!(!problem.contains("bin/runzeo"), "{problem}");
        assert_eq!(
            fs::read_to_string(instance.join("etc/zeo.conf")).unwrap(),
            "mine"
        );
        assert!(!instance.join("bin/runzeo").exists());
    }

    #[test]
    fn a_path_with_dots_is_written_without() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().canonicalize().unwrap();
        fs::create_dir_all(home.join("a/b")).unwrap();
        std::os::unix::fs::symlink(home.join("a/b"), home.join("link")).unwrap();
        assert_eq!(plain(&home.join("a/../zeo")).unwrap(), home.join("zeo"));
        // As the kernel goes: up from where the link leads.
        assert_eq!(
            plain(&home.join("link/../zeo")).unwrap(),
            home.join("a/zeo")
        );
        // A link that is not left again stays.
        assert_eq!(
            plain(&home.join("link/./zeo")).unwrap(),
            home.join("link/zeo")
        );
        assert!(plain(&home.join("missing/../zeo")).is_err());
    }

    #[test]
    fn the_configuration_says_what_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let instance = directory.path().join("zeo");
        let line = [
            instance.to_str().unwrap(),
            "--address",
            "[::1]:8200",
            "--no-blobs",
        ];
        let made = init(&line).make(Path::new("/usr/bin/zeod"), None).unwrap();
        let read =
            |path: &Path| crate::config::load(&path.join("etc/zeo.conf"), &|_| None).unwrap();
        let config = read(&made);
        assert_eq!(config.zeo.address.to_string(), "[::1]:8200");
        assert_eq!(config.zeo.pid_filename, Some(instance.join("var/ZEO.pid")));
        assert_eq!(config.zeod.user, None);
        let storage = |blob_dir: Option<PathBuf>| {
            crate::config::StorageConfig::File(crate::config::FileStorageConfig {
                blob_dir,
                ..crate::config::FileStorageConfig::new(instance.join("var/Data.fs"))
            })
        };
        assert_eq!(config.storages[0].storage, storage(None));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        let permissions = fs::metadata(instance.join("var"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(permissions & 0o777, PRIVATE);

        fs::remove_dir_all(&instance).unwrap();
        let line = [instance.to_str().unwrap(), "--user", "root:12"];
        let made = init(&line).make(Path::new("/usr/bin/zeod"), None).unwrap();
        let config = read(&made);
        assert_eq!(config.zeod.user.as_deref(), Some("root:12"));
        assert_eq!(
            config.storages[0].storage,
            storage(Some(instance.join("var/blobs")))
        );
        let unit = fs::read_to_string(instance.join("etc/zeod.service")).unwrap();
        assert!(unit.contains("\nUser=root\nGroup=12\n"), "{unit}");
        let start = format!(
            "ExecStart=/usr/bin/zeod -C {}/etc/zeo.conf\n",
            instance.display()
        );
        assert!(unit.contains(&start), "{unit}");
        assert!(
            !unit.contains('@') || unit.matches('@').count() == 1,
            "{unit}"
        );
    }

    #[test]
    fn the_unit_in_etc_is_the_one_for_srv_zeo() {
        let line = init(&["/srv/zeo", "--user", "zope"]);
        let (instance, program) = (Path::new("/srv/zeo"), Path::new("/usr/local/bin/zeod"));
        let unit = line.filled(include_str!("zeod.service.in"), instance, program);
        assert_eq!(unit, include_str!("../../../etc/zeod.service"));
    }

    #[test]
    fn a_path_that_would_need_quotes_is_refused() {
        assert!(can_be_written(Path::new("/srv/zeo-1/é_2")).is_ok());
        for path in ["/srv/a b", "/srv/$HOME", "/srv/a'b", "/srv/100%", "/srv/#1"] {
            let problem = can_be_written(Path::new(path)).unwrap_err();
            assert!(problem.starts_with(path), "{problem}");
        }
    }
}
