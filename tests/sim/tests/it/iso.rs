//! Images made by the ISO maker, read back by a small reader of our own.

use gantry_sim::iso::{Iso, MIN_SIZE, TOOLS_NAME, VOLUME_LABEL};

const SECTOR: usize = 2048;

/// Records of a directory extent: identifier, extent sector, bytes, system use area.
fn records(image: &[u8], sector: usize, bytes: usize) -> Vec<(Vec<u8>, usize, usize, Vec<u8>)> {
    let extent = &image[sector * SECTOR..][..bytes];
    let mut found = Vec::new();
    for chunk in extent.chunks(SECTOR) {
        let mut at = 0;
        while at < chunk.len() && chunk[at] > 0 {
            let record = &chunk[at..at + chunk[at] as usize];
            let number = |offset: usize| u32::from_le_bytes(record[offset..offset + 4].try_into().expect("4")) as usize;
            let length = record[32] as usize;
            let system_use = 33 + length + usize::from(length.is_multiple_of(2));
            found.push((record[33..33 + length].to_vec(), number(2), number(10), record[system_use..].to_vec()));
            at += record.len();
        }
    }
    found
}

fn root(image: &[u8], descriptor: usize) -> Vec<(Vec<u8>, usize, usize, Vec<u8>)> {
    let record = &image[descriptor * SECTOR + 156..][..34];
    let number = |offset: usize| u32::from_le_bytes(record[offset..offset + 4].try_into().expect("4")) as usize;
    records(image, number(2), number(10))
}

fn has(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn an_image_has_the_wanted_size_label_and_tools() {
    for size in [MIN_SIZE, MIN_SIZE + 1, 3 * 65_536 + 1, 1 << 20] {
        let image = Iso::new(size).bytes().expect("an image");
        assert_eq!(image.len() as u64, size);
        let descriptor = &image[16 * SECTOR..];
        assert!(descriptor.starts_with(b"\x01CD001\x01"));
        assert!(descriptor[40..72].starts_with(VOLUME_LABEL.as_bytes()));
        assert_eq!(u32::from_le_bytes(descriptor[80..84].try_into().expect("4")) as u64, size / 2048);
        assert!(image[17 * SECTOR..].starts_with(b"\xFFCD001"));
        let root = root(&image, 16);
        let names: Vec<_> = root.iter().map(|(name, ..)| String::from_utf8_lossy(name).into_owned()).collect();
        assert_eq!(&names[2..4], ["ISOLINUX", "KS.CFG;1"]);
        let (_, sector, bytes, extra) =
            root.iter().find(|(name, ..)| name == b"SMTX_VM_.SH;1").expect("the tools, short");
        assert!(has(extra, TOOLS_NAME.as_bytes()), "and their true name by Rock Ridge");
        assert!(image[sector * SECTOR..][..*bytes].starts_with(b"#!/bin/sh"));
        assert!(has(&root[0].3, b"SP\x07\x01\xBE\xEF"), "the root announces system use");
    }
}

#[test]
fn a_stock_image_has_no_tools_under_any_name() {
    for joliet in [false, true] {
        let image = Iso::new(1 << 18).tools(false).joliet(joliet).bytes().expect("an image");
        assert!(!has(&image[16 * SECTOR..40 * SECTOR], b"SMTX_VM_"));
    }
}

#[test]
fn joliet_names_stand_in_their_own_tree() {
    let image = Iso::new(MIN_SIZE).rock_ridge(false).joliet(true).bytes().expect("an image");
    assert!(image[17 * SECTOR..].starts_with(b"\x02CD001\x01"));
    let wide: Vec<u8> = format!("{TOOLS_NAME};1").encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert!(root(&image, 17).iter().any(|(name, ..)| *name == wide));
    let primary = root(&image, 16);
    assert!(primary.iter().any(|(name, .., extra)| name == b"SMTX_VM_.SH;1" && extra.is_empty()));
}

#[test]
fn content_follows_the_seed_and_the_file_equals_the_memory_image() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.iso");
    let iso = Iso::new(300_001).seed(5);
    iso.write(&path).expect("written");
    assert_eq!(std::fs::read(&path).expect("read"), iso.bytes().expect("an image"));
    assert_ne!(iso.bytes().expect("an image"), Iso::new(300_001).seed(6).bytes().expect("an image"));
}

#[test]
fn sparse_images_of_many_gigabytes_cost_no_disk() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("big.iso");
    Iso::new((8 << 30) + 77).sparse(true).write(&path).expect("written");
    let metadata = std::fs::metadata(&path).expect("metadata");
    assert_eq!(metadata.len(), (8 << 30) + 77);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
}

#[test]
fn too_small_is_an_error() {
    assert!(Iso::new(MIN_SIZE - 1).bytes().is_err());
    let directory = tempfile::tempdir().expect("a directory");
    assert!(Iso::new(0).write(&directory.path().join("x.iso")).is_err());
}
