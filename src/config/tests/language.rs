use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Files, config_of, ends_with};
use crate::config::{Address, Loaded, Overrides, StorageConfig, load, load_with};

const ZEO: &str = "<zeo>\n address 8100\n</zeo>\n";

#[test]
fn case_and_space_do_not_matter_where_zconfig_ignores_them() {
    let config = config_of(
        "<ZEO>\r\n\tADDRESS\t  LocalHost:8100  \r\n  Read-Only  YES\n# note\n   # note\n\n</zEo >\n\
         <FileStorage Main >\n  PATH Data.fs\n</FILESTORAGE>\n",
    );
    assert_eq!(config.zeo.address.to_string(), "localhost:8100");
    assert!(config.zeo.read_only);
    assert_eq!(config.storages[0].name, "main");
    assert_eq!(config.warnings, []);
}

#[test]
fn a_hash_within_a_line_is_part_of_the_value() {
    let config = config_of(&format!(
        "{ZEO}<filestorage>\n path Data#1.fs # x\n</filestorage>"
    ));
    let StorageConfig::File(storage) = &config.storages[0].storage else {
        panic!("not a file storage");
    };
    assert_eq!(storage.path, Path::new("Data#1.fs # x"));
}

#[test]
fn definitions_are_replaced_once_and_without_case() {
    let config = config_of(&format!(
        "%define Name main\n%define both ${{NAME}}-$name\n%define name main\n{ZEO}\
         <mappingstorage 1>\n name $Both $$both $(ZEO_PORT)[$(EMPTY)]\n</mappingstorage>"
    ));
    let name = "main-main $both 8123[]".to_owned();
    assert_eq!(config.storages[0].storage, StorageConfig::Mapping { name });
}

#[test]
fn section_names_are_not_substituted() {
    let config = config_of(&format!("%define X y\n{ZEO}<mappingstorage $X/>"));
    assert_eq!(config.storages[0].name, "$x");
}

#[test]
fn a_name_in_the_closing_tag_is_accepted_with_a_warning() {
    let config = config_of(&format!(
        "{ZEO}<filestorage Two>\n path x\n</filestorage TWO>\n"
    ));
    assert_eq!(config.storages[0].name, "two");
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].ends_with(
        "zeo.conf:6: </filestorage TWO> should be </filestorage>: the Python server refuses a name here"
    ));
}

#[test]
fn included_files_share_definitions_and_stand_where_they_are_included() {
    let files = Files::new(&[
        (
            "zeo.conf",
            "%include parts/defines.conf\n<zeo>\n%include $PARTS/zeo%20keys.conf\n</zeo>\n\
             %include file:$(TMP)/parts/storages.conf\n",
        ),
        (
            "parts/defines.conf",
            "%define parts parts\n%define port 8200\n",
        ),
        ("parts/zeo keys.conf", "address $port\n"),
        (
            "parts/storages.conf",
            "%include more.conf\n%include more2.conf\n",
        ),
        ("parts/more.conf", "<mappingstorage a/>\n"),
        ("parts/more2.conf", "<mappingstorage b/>\n"),
    ]);
    let config = files.load("zeo.conf").unwrap();
    assert_eq!(config.zeo.address.to_string(), ":8200");
    let names: Vec<_> = config
        .storages
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn an_error_in_an_included_file_is_located_there() {
    for (included, message) in [
        ("x 1\n", "parts/x.conf:1: unknown key \"x\" in <zeo>"),
        ("</zeo>\n", "parts/x.conf:1: unexpected </zeo>"),
        (
            "\n<ssl>\n",
            "parts/x.conf:2: the section <ssl> is never closed",
        ),
        (
            "%include ../zeo.conf\n",
            "parts/x.conf:1: %include of a file that is being read already: zeo.conf -> parts/x.conf \
             -> zeo.conf",
        ),
    ] {
        let main = "<zeo>\naddress 1\n%include parts/x.conf\n</zeo>\n<mappingstorage/>\n";
        let files = Files::new(&[("zeo.conf", main), ("parts/x.conf", included)]);
        let error = files.relative(&files.load("zeo.conf").unwrap_err());
        assert!(
            error.replace("parts/../", "").starts_with(message),
            "{error}"
        );
    }
}

#[test]
fn including_without_end_is_limited() {
    let twice = |next: usize| format!("%include {next}\n%include {next}\n");
    let texts: Vec<_> = (1..20)
        .map(|number| (number.to_string(), twice(number + 1)))
        .chain([("20".to_owned(), String::new())])
        .collect();
    let files: Vec<_> = texts
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let error = Files::new(&files).load("1").unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("more than 256 files are included")
    );
}

#[test]
fn known_packages_may_be_imported() {
    config_of(&format!(
        "%import ZConfig.components.logger\n%import zdaemon\n%import ZODB\n{ZEO}<mappingstorage/>"
    ));
}

#[test]
fn a_single_unnamed_storage_is_called_1() {
    let config =
        config_of(&format!("{ZEO}<mappingstorage/><mappingstorage 2/>").replace("><", ">\n<"));
    let names: Vec<_> = config
        .storages
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["1", "2"]);
}

#[test]
fn the_runner_is_not_looked_into() {
    config_of(&format!(
        "{ZEO}<mappingstorage/>\n<runner>\n program x y\n Anything=at all\n program z\n <eventlog>\n \
         level loud\n </eventlog>\n <whatever 1/>\n</runner>"
    ));
}

#[test]
fn tildes_are_expanded_where_zconfig_does_so() {
    let config = config_of(
        "<zeo>\n address 1\n pid-filename ~/zeo.pid\n</zeo>\n\
         <blobstorage>\n blob-dir ~/blobs\n <filestorage>\n path ~/Data.fs\n </filestorage>\n\
         </blobstorage>",
    );
    let pid_filename = config.zeo.pid_filename.unwrap();
    assert!(pid_filename.is_absolute() && ends_with(&pid_filename, "/zeo.pid"));
    let StorageConfig::Blob { blob_dir, base } = &config.storages[0].storage else {
        panic!("not a blob storage");
    };
    assert_eq!(blob_dir, Path::new("~/blobs"));
    assert!(matches!(&**base, StorageConfig::File(file) if file.path.is_absolute()));
}

#[test]
fn keys_without_a_value_are_unset_where_that_means_something() {
    let config = config_of(
        "<zeo>\n address 1\n pid-filename\n</zeo>\n<filestorage>\n path x\n blob-dir\n packer\n\
         </filestorage>",
    );
    assert_eq!(config.zeo.pid_filename, None);
    let StorageConfig::File(storage) = &config.storages[0].storage else {
        panic!("not a file storage");
    };
    assert_eq!((&storage.blob_dir, &storage.packer), (&None, &None));
    assert_eq!(config.warnings, []);
}

#[test]
fn the_environment_stands_in_for_keys_that_are_not_set() {
    let files = Files::new(&[
        ("unset", &format!("{ZEO}<mappingstorage/>")),
        (
            "set",
            "<zeo>\naddress 1\nmsgpack no\npid-filename x\n</zeo>\n<mappingstorage/>",
        ),
    ]);
    let environment = |name: &str| match name {
        "ZEO_MSGPACK" => Some("0".to_owned()),
        "INSTANCE_HOME" => Some("/srv/zeo".to_owned()),
        _ => None,
    };
    let unset = load(&files.path("unset"), &environment).unwrap().zeo;
    assert_eq!(unset.msgpack, Some(true));
    assert_eq!(unset.pid_filename, Some("/srv/zeo/var/ZEO.pid".into()));
    let set = load(&files.path("set"), &environment).unwrap().zeo;
    assert_eq!(set.msgpack, Some(false));
    assert_eq!(set.pid_filename, Some("x".into()));
}

#[test]
fn a_file_url_names_a_file() {
    let files = Files::new(&[("a b.conf", &format!("{ZEO}<mappingstorage/>"))]);
    let url = format!("file://{}", files.path("a%20b.conf").display());
    let config = load(Path::new(&url), &|_| None).unwrap();
    assert_eq!(config.source, files.path("a b.conf"));
}

#[test]
fn odd_values_are_warned_about() {
    let config = config_of(
        "<zeo>\n address localhost\n transaction-timeout 0\n</zeo>\n\
         <filestorage>\n path x\n packer some.module:Packer\n</filestorage>",
    );
    let host = Some("localhost".to_owned());
    assert_eq!(config.zeo.address, Address::Tcp { host, port: 0 });
    assert_eq!(config.zeo.transaction_timeout, Some(Duration::ZERO));
    let lines: Vec<_> = config
        .warnings
        .iter()
        .map(|one| one.location.line)
        .collect();
    assert_eq!(lines, [Some(2), Some(3), Some(7)]);
}

#[test]
fn ages_that_let_nobody_through_are_none() {
    for (text, age) in [
        ("0", None),
        ("-5", None),
        ("nan", None),
        ("1.5", Some(Duration::from_millis(1500))),
        ("inf", Some(Duration::MAX)),
    ] {
        let zeo = format!("<zeo>\naddress 1\ninvalidation-age {text}\n</zeo>\n<mappingstorage/>");
        assert_eq!(config_of(&zeo).zeo.invalidation_age, age, "{text}");
    }
}

fn overrides() -> Overrides {
    Overrides {
        address: Some("9000".parse().unwrap()),
        files: vec!["~/a.fs".into(), "b.fs".into()],
        transaction_timeout: Some(Duration::from_secs(7)),
        pid_filename: Some("~/pid".into()),
        variables: Vec::new(),
    }
}

#[test]
fn the_command_line_wins_over_the_file() {
    // Two unnamed storages would be refused if they were to be served.
    let files = Files::new(&[(
        "zeo.conf",
        &format!("{ZEO}<mappingstorage/>\n<mappingstorage/>"),
    )]);
    let path = files.path("zeo.conf");
    assert!(load(&path, &files.environment()).is_err());
    let config = load_with(&path, &overrides(), &files.environment()).unwrap();
    assert_eq!(config.zeo.address.to_string(), ":9000");
    assert_eq!(config.zeo.transaction_timeout, Some(Duration::from_secs(7)));
    assert_eq!(config.zeo.pid_filename, Some(PathBuf::from("~/pid")));
    let alone = Loaded::arguments(
        &"1".parse().unwrap(),
        &["c.fs".into()],
        &overrides(),
        &files.environment(),
    );
    assert_eq!(alone.unwrap().config.storages, config.storages);
}

#[test]
fn a_server_without_a_file_has_the_defaults() {
    let address: Address = "localhost:8100".parse().unwrap();
    let files = ["Data.fs".into(), "Other.fs".into()];
    let loaded = Loaded::arguments(&address, &files, &Overrides::default(), &|_| None);
    let config = loaded.unwrap().config;
    assert_eq!(config.zeo.address, address);
    assert_eq!(config.zeo.invalidation_queue_size, 100);
    let names: Vec<_> = config
        .storages
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["1", "2"]);
}

#[test]
fn a_broken_file_is_not_repaired_by_the_command_line() {
    let files = Files::new(&[("zeo.conf", "<mappingstorage/>\n")]);
    assert!(load_with(&files.path("zeo.conf"), &overrides(), &files.environment()).is_err());
}
