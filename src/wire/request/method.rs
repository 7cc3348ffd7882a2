/// Writes the methods down once, each with its name on the wire.
macro_rules! methods {
    ($($method:ident = $name:literal,)*) => {
        /// A method without its arguments.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // see the variants of `Request`
        pub enum Method {
            $($method,)*
        }

        impl Method {
            /// All of them; a method's number is its place here.
            pub const ALL: &[Self] = &[$(Self::$method,)*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$method => $name,)*
                }
            }

            /// Its place among all.
            pub const fn number(self) -> usize {
                self as usize
            }
        }
    };
}

methods! {
    Register = "register",
    GetInfo = "get_info",
    LastTransaction = "lastTransaction",
    GetInvalidations = "getInvalidations",
    NewOids = "new_oids",
    NewOid = "new_oid",
    Pack = "pack",
    LoadBefore = "loadBefore",
    LoadSerial = "loadSerial",
    GetTid = "getTid",
    History = "history",
    RecordIternext = "record_iternext",
    TpcBegin = "tpc_begin",
    Store = "storea",
    Restore = "restorea",
    DeleteObject = "deleteObject",
    CheckCurrentSerial = "checkCurrentSerialInTransaction",
    Vote = "vote",
    TpcFinish = "tpc_finish",
    TpcAbort = "tpc_abort",
    Undo = "undoa",
    UndoLog = "undoLog",
    UndoInfo = "undoInfo",
    StoreBlobStart = "storeBlobStart",
    StoreBlobChunk = "storeBlobChunk",
    StoreBlobEnd = "storeBlobEnd",
    StoreBlobShared = "storeBlobShared",
    SendBlob = "sendBlob",
    IteratorStart = "iterator_start",
    IteratorNext = "iterator_next",
    IteratorRecordStart = "iterator_record_start",
    IteratorRecordNext = "iterator_record_next",
    IteratorGc = "iterator_gc",
    ServerStatus = "server_status",
    SetClientLabel = "set_client_label",
    Ping = "ping",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_place_and_a_name_is_for_one() {
        let mut names = std::collections::HashSet::new();
        for (place, method) in Method::ALL.iter().enumerate() {
            assert_eq!(method.number(), place);
            assert!(names.insert(method.name()), "{method:?}");
        }
    }
}
