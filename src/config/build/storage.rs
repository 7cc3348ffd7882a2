use super::client::zeoclient;
use super::contradiction;
use crate::config::Context;
use crate::config::check::Checked;
use crate::config::schema::Role;
use crate::config::{ConfigError, Fault, FileStorageConfig, NamedStorage, StorageConfig};

/// The storages of the file under their names.
pub fn named_storages(
    file: &Checked,
    context: &Context<'_>,
) -> Result<Vec<NamedStorage>, ConfigError> {
    let is_storage = |section: &&Checked| section.kind.role == Role::Storage;
    check_unnamed(file.children.iter().filter(is_storage))?;
    let mut storages = Vec::new();
    for section in file.children.iter().filter(is_storage) {
        storages.push(NamedStorage {
            name: section.name.clone().unwrap_or_else(|| "1".to_owned()),
            storage: storage(section, context)?,
        });
    }
    Ok(storages)
}

/// One storage may be unnamed; it is called "1", and no other may be.
fn check_unnamed<'a>(storages: impl Iterator<Item = &'a Checked>) -> Result<(), ConfigError> {
    let (named, unnamed): (Vec<_>, Vec<_>) = storages.partition(|section| section.name.is_some());
    let mut unnamed = unnamed.into_iter();
    let Some(first) = unnamed.next() else {
        return Ok(());
    };
    if let Some(second) = unnamed.next() {
        let fault = Fault::SecondUnnamed {
            section: second.title(),
            first: first.location.clone(),
        };
        return Err(ConfigError::new(&second.location, fault));
    }
    match named
        .iter()
        .find(|section| section.name.as_deref() == Some("1"))
    {
        Some(one) => {
            let unnamed = first.location.clone();
            Err(ConfigError::new(
                &one.location,
                Fault::UnnamedIsOne { unnamed },
            ))
        }
        None => Ok(()),
    }
}

fn storage(section: &Checked, context: &Context<'_>) -> Result<StorageConfig, ConfigError> {
    match section.kind.name {
        "filestorage" => filestorage(section, context).map(StorageConfig::File),
        "blobstorage" => blobstorage(section, context),
        "demostorage" => demostorage(section, context),
        "zeoclient" => zeoclient(section, context).map(StorageConfig::Client),
        "mappingstorage" => Ok(StorageConfig::Mapping {
            name: section.text("name").unwrap_or("Mapping Storage").to_owned(),
        }),
        // A storage type that has a line in the table and none here.
        _ => Err(contradiction(section, "this storage is not available")),
    }
}

fn filestorage(section: &Checked, context: &Context<'_>) -> Result<FileStorageConfig, ConfigError> {
    let path = section
        .path("path")
        .ok_or_else(|| contradiction(section, "there is no path"))?;
    let mut storage = FileStorageConfig::new(path);
    storage.blob_dir = section.path("blob-dir");
    storage.create = section.boolean("create").unwrap_or(storage.create);
    storage.read_only = section.boolean("read-only").unwrap_or(storage.read_only);
    storage.quota_bytes = section.count("quota");
    storage.pack_gc = section.boolean("pack-gc").unwrap_or(storage.pack_gc);
    storage.pack_keep_old = section
        .boolean("pack-keep-old")
        .unwrap_or(storage.pack_keep_old);
    storage.packer = section.text("packer").map(str::to_owned);
    if storage.packer.is_some() {
        context.warn(
            section.location_of("packer"),
            "\"packer\" names a Python packer, which cannot be called here; \
             this server packs by itself"
                .to_owned(),
        );
    }
    if storage.create && storage.read_only {
        return Err(contradiction(
            section,
            "\"create\" and \"read-only\" exclude each other; take one of the two out",
        ));
    }
    Ok(storage)
}

fn blobstorage(section: &Checked, context: &Context<'_>) -> Result<StorageConfig, ConfigError> {
    let (Some(blob_dir), Some(base)) = (section.path("blob-dir"), section.children.first()) else {
        return Err(contradiction(
            section,
            "a blob-dir and a storage are needed",
        ));
    };
    Ok(StorageConfig::Blob {
        blob_dir,
        base: Box::new(storage(base, context)?),
    })
}

/// The section named `changes` is the changes, any other is the base.
fn demostorage(section: &Checked, context: &Context<'_>) -> Result<StorageConfig, ConfigError> {
    let mut base = None;
    let mut changes = None;
    for child in &section.children {
        let part = if child.name.as_deref() == Some("changes") {
            &mut changes
        } else {
            &mut base
        };
        if part.is_some() {
            return Err(contradiction(
                section,
                "at most two storages can stand in it, one of them named \"changes\"",
            ));
        }
        *part = Some(Box::new(storage(child, context)?));
    }
    Ok(StorageConfig::Demo {
        name: section.text("name").map(str::to_owned),
        base,
        changes,
    })
}
