//! Zip archives of foreign origin, read within bounds.
//!
//! The directory is read here and not by a zip library because libraries size their tables by what the archive claims
//! to hold, and let the last of several entries of one name win. Here the number of entries and the bytes that they
//! claim are bounded before anything is allocated, and an entry that holds more than it claims is refused while it is
//! inflated, so that an archive never takes more memory than allowed, whatever its headers say.

use std::io::Read;

use flate2::Crc;
use flate2::read::DeflateDecoder;

/// The last record of an archive, without its comment.
const END_BYTES: usize = 22;

/// Longest comment that the last record can carry.
const MAX_COMMENT_BYTES: usize = u16::MAX as usize;

/// One line of the directory, without name, extra fields and comment.
const LINE_BYTES: usize = 46;

/// What stands before an entry's data, without name and extra fields.
const LOCAL_BYTES: usize = 30;

/// Longest name of an entry: that of an object key.
const MAX_NAME_BYTES: usize = 1024;

/// What stands in a size or an offset that only the 64-bit extension can hold.
const IN_ZIP64: u32 = u32::MAX;

/// What is allowed of one archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArchiveLimits {
    /// Most entries, folders and ignored ones included.
    pub(crate) max_entries: usize,
    /// Most bytes that all entries together may take once inflated.
    pub(crate) max_inflated_bytes: u64,
}

/// Why an archive is not read. None of these can be cured by trying again.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("damaged zip archive: {0}")]
    Damaged(String),
    #[error("unsupported zip archive: {0}")]
    Unsupported(String),
    #[error("the zip archive has {entries} entries, at most {allowed} are allowed")]
    TooManyEntries { entries: usize, allowed: usize },
    #[error("the zip archive inflates to {inflated_bytes} bytes, at most {allowed} are allowed")]
    TooLarge { inflated_bytes: u64, allowed: u64 },
    #[error("entry {name:?} has a name that could lead out of its folder: {reason}")]
    UnsafeName { name: String, reason: &'static str },
}

/// How an entry is stored.
#[derive(Clone, Copy, Debug)]
enum Method {
    Stored,
    Deflated,
}

/// One file of an archive, as the directory describes it.
#[derive(Debug)]
pub(crate) struct Entry {
    name: String,
    method: Method,
    checksum: u32,
    stored_bytes: usize,
    inflated_bytes: u64,
    local_header: usize,
}

impl Entry {
    /// Path of the file inside the archive: segments joined by `/`, none of them empty, `.` or `..`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// An archive whose directory was read and checked; no entry is inflated yet.
#[derive(Debug)]
pub(crate) struct Archive<'a> {
    bytes: &'a [u8],
    entries: Vec<Entry>,
}

impl<'a> Archive<'a> {
    /// Reads the directory and checks it against the limits. Folders are left out; every name is a plain path.
    ///
    /// # Errors
    /// Any [`ArchiveError`].
    pub(crate) fn open(bytes: &'a [u8], limits: &ArchiveLimits) -> Result<Self, ArchiveError> {
        let end = End::find(bytes)?;
        if end.entries > limits.max_entries {
            return Err(ArchiveError::TooManyEntries {
                entries: end.entries,
                allowed: limits.max_entries,
            });
        }
        let mut directory = end.directory;
        let mut entries = Vec::with_capacity(end.entries);
        let mut inflated_bytes: u64 = 0;
        for _ in 0..end.entries {
            if let Some(entry) = take_line(&mut directory)? {
                inflated_bytes = inflated_bytes.saturating_add(entry.inflated_bytes);
                entries.push(entry);
            }
        }
        if !directory.is_empty() {
            return Err(damaged("its directory has more lines than it says"));
        }
        if inflated_bytes > limits.max_inflated_bytes {
            return Err(ArchiveError::TooLarge {
                inflated_bytes,
                allowed: limits.max_inflated_bytes,
            });
        }
        Ok(Self { bytes, entries })
    }

    /// The files, in the order of the directory.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Inflates one file and checks its length and checksum.
    ///
    /// # Errors
    /// [`ArchiveError::Damaged`], as soon as the entry turns out to hold more than it claims.
    pub(crate) fn read(&self, entry: &Entry) -> Result<Vec<u8>, ArchiveError> {
        let damaged_entry = |reason: String| damaged(format!("entry {:?} {reason}", entry.name));
        let stored = self
            .data(entry)
            .ok_or_else(|| damaged_entry("lies outside of the file".to_owned()))?;
        let reader: &mut dyn Read = match entry.method {
            Method::Stored => &mut &*stored,
            Method::Deflated => &mut DeflateDecoder::new(stored),
        };
        let mut content = Vec::new();
        reader
            .take(entry.inflated_bytes.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(|error| damaged_entry(format!("cannot be inflated: {error}")))?;
        if content.len() as u64 != entry.inflated_bytes {
            return Err(damaged_entry(format!(
                "does not hold the {} bytes that it claims",
                entry.inflated_bytes
            )));
        }
        let mut checksum = Crc::new();
        checksum.update(&content);
        if checksum.sum() != entry.checksum {
            return Err(damaged_entry(
                "has another checksum than it claims".to_owned(),
            ));
        }
        Ok(content)
    }

    /// The stored bytes of an entry; `None` where they are not inside the file.
    fn data(&self, entry: &Entry) -> Option<&'a [u8]> {
        let local = self.bytes.get(entry.local_header..)?;
        let header: &[u8; LOCAL_BYTES] = local.first_chunk()?;
        let start = LOCAL_BYTES + usize::from(u16_at(header, 26)) + usize::from(u16_at(header, 28));
        header.starts_with(b"PK\x03\x04").then_some(())?;
        local.get(start..)?.get(..entry.stored_bytes)
    }
}

/// What the last record of an archive says.
struct End<'a> {
    entries: usize,
    directory: &'a [u8],
}

impl<'a> End<'a> {
    /// Finds the last record: the one whose comment ends where the file does.
    fn find(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        let last = bytes
            .len()
            .checked_sub(END_BYTES)
            .ok_or_else(|| damaged("it is too short"))?;
        let record = |at: &usize| {
            let record: &[u8; END_BYTES] = bytes.get(*at..)?.first_chunk()?;
            let comment = usize::from(u16_at(record, 20));
            (record.starts_with(b"PK\x05\x06") && comment == last - at).then_some((*at, record))
        };
        let (at, record) = (last.saturating_sub(MAX_COMMENT_BYTES)..=last)
            .rev()
            .find_map(|at| record(&at))
            .ok_or_else(|| damaged("it has no end; was it uploaded whole?"))?;
        let (here, all) = (u16_at(record, 8), u16_at(record, 10));
        let (size, offset) = (u32_at(record, 12), u32_at(record, 16));
        if all == u16::MAX || size == IN_ZIP64 || offset == IN_ZIP64 {
            return Err(zip64());
        }
        if u16_at(record, 4) != 0 || u16_at(record, 6) != 0 || here != all {
            return Err(ArchiveError::Unsupported(
                "it is split into several files".to_owned(),
            ));
        }
        let directory = bytes[..at]
            .get(offset as usize..)
            .filter(|directory| directory.len() == size as usize)
            .ok_or_else(|| damaged("its directory is not where it says"))?;
        Ok(Self {
            entries: usize::from(all),
            directory,
        })
    }
}

/// Cuts one line off the front of the directory; `None` for a folder.
fn take_line(directory: &mut &[u8]) -> Result<Option<Entry>, ArchiveError> {
    let cut = || damaged("its directory breaks off");
    let line: &[u8; LINE_BYTES] = directory.first_chunk().ok_or_else(cut)?;
    if !line.starts_with(b"PK\x01\x02") {
        return Err(damaged("its directory holds something else"));
    }
    let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(line, at)));
    let rest = directory.get(LINE_BYTES..).ok_or_else(cut)?;
    let name = rest.get(..name).ok_or_else(cut)?;
    *directory = rest.get(name.len() + extra + comment..).ok_or_else(cut)?;

    let (name, is_folder) = plain_path(name)?;
    if is_folder {
        return Ok(None);
    }
    let unsupported = |reason: &str| ArchiveError::Unsupported(format!("entry {name:?} {reason}"));
    let (flags, method) = (u16_at(line, 8), u16_at(line, 10));
    // Bits 0 and 6 are the two ways of encryption, method 99 is a third.
    if flags & 0b100_0001 != 0 || method == 99 {
        return Err(unsupported("is encrypted: pack it without a password"));
    }
    let method = match method {
        0 => Method::Stored,
        8 => Method::Deflated,
        other => {
            return Err(unsupported(&format!(
                "is compressed by method {other}: only Deflate and none are read"
            )));
        }
    };
    let [stored_bytes, inflated_bytes, local_header] = [20, 24, 42].map(|at| u32_at(line, at));
    if [stored_bytes, inflated_bytes, local_header].contains(&IN_ZIP64) {
        return Err(zip64());
    }
    Ok(Some(Entry {
        name,
        method,
        checksum: u32_at(line, 16),
        stored_bytes: stored_bytes as usize,
        inflated_bytes: inflated_bytes.into(),
        local_header: local_header as usize,
    }))
}

/// Checks a name; returns it without the `/` that ends a folder's, and whether it is one.
fn plain_path(name: &[u8]) -> Result<(String, bool), ArchiveError> {
    if name.len() > MAX_NAME_BYTES {
        return Err(ArchiveError::Unsupported(format!(
            "a name of {} bytes, at most {MAX_NAME_BYTES} are read",
            name.len()
        )));
    }
    // Archives of some systems hold UTF-8 without saying so; bytes that are none are in one of many code pages.
    let Ok(text) = std::str::from_utf8(name) else {
        return Err(ArchiveError::Unsupported(format!(
            "the name {:?} is not UTF-8",
            String::from_utf8_lossy(name)
        )));
    };
    let (path, is_folder) = match text.strip_suffix('/') {
        Some(path) => (path, true),
        None => (text, false),
    };
    let reason = if path.starts_with('/') {
        Some("it is absolute")
    } else if path.contains('\\') {
        Some("it has a backslash")
    } else if path.chars().any(char::is_control) {
        Some("it has a control character")
    } else if path.as_bytes().get(1) == Some(&b':') {
        Some("it names a drive")
    } else if path
        .split('/')
        .any(|segment| matches!(segment, "" | "." | ".."))
    {
        Some("a part of it is empty, `.` or `..`")
    } else {
        None
    };
    match reason {
        Some(reason) => Err(ArchiveError::UnsafeName {
            name: text.to_owned(),
            reason,
        }),
        None => Ok((path.to_owned(), is_folder)),
    }
}

fn damaged(reason: impl Into<String>) -> ArchiveError {
    ArchiveError::Damaged(reason.into())
}

fn zip64() -> ArchiveError {
    ArchiveError::Unsupported("it uses the ZIP64 extension: pack it anew, or in parts".to_owned())
}

fn u16_at<const N: usize>(record: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes([record[at], record[at + 1]])
}

fn u32_at<const N: usize>(record: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Cursor, Write};

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    const LIMITS: ArchiveLimits = ArchiveLimits {
        max_entries: 8,
        max_inflated_bytes: 1 << 20,
    };

    fn pack(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in entries {
            writer
                .start_file(*name, SimpleFileOptions::default())
                .unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, ArchiveError> {
        let archive = Archive::open(bytes, &LIMITS)?;
        archive
            .entries()
            .iter()
            .map(|entry| Ok((entry.name().to_owned(), archive.read(entry)?)))
            .collect()
    }

    fn refusal(bytes: &[u8]) -> String {
        read_all(bytes).unwrap_err().to_string()
    }

    /// Where the first line of the directory starts.
    fn line(bytes: &[u8]) -> usize {
        bytes
            .windows(4)
            .position(|four| four == b"PK\x01\x02")
            .unwrap()
    }

    #[test]
    fn what_a_zip_library_packs_is_read_back() {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        writer
            .add_directory("folder/", SimpleFileOptions::default())
            .unwrap();
        writer
            .start_file("folder/ünï 1.tif", SimpleFileOptions::default())
            .unwrap();
        writer.write_all(&[7; 100_000]).unwrap();
        writer.start_file("plain", stored).unwrap();
        writer.write_all(b"as it is").unwrap();
        writer.start_file("nothing", stored).unwrap();
        writer.set_comment("packed for a test");
        let bytes = writer.finish().unwrap().into_inner();
        assert_eq!(
            read_all(&bytes).unwrap(),
            [
                ("folder/ünï 1.tif".to_owned(), vec![7; 100_000]),
                ("plain".to_owned(), b"as it is".to_vec()),
                ("nothing".to_owned(), Vec::new()),
            ]
        );
        assert_eq!(read_all(&pack(&[])).unwrap(), []);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [
            "/etc/passwd",
            "../x.tif",
            "a/../../x.tif",
            "./x.tif",
            "a//x.tif",
            "a\\..\\x.tif",
            "C:/x.tif",
            "a\nb.tif",
        ] {
            let mut bytes = pack(&[(&"n".repeat(name.len()), b"content")]);
            // Written into the directory afterwards: a library does not write some of these.
            let at = line(&bytes) + LINE_BYTES;
            bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
            assert!(
                matches!(read_all(&bytes), Err(ArchiveError::UnsafeName { .. })),
                "{name:?}"
            );
        }
        let mut bytes = pack(&[("x.tif", b"content")]);
        let at = line(&bytes) + LINE_BYTES;
        bytes[at] = 0xff;
        assert!(refusal(&bytes).contains("is not UTF-8"));
    }

    #[test]
    fn a_bomb_is_refused_by_what_it_claims_and_by_what_it_holds() {
        let bomb = pack(&[("bomb", &vec![0; LIMITS.max_inflated_bytes as usize + 1])]);
        assert_eq!(
            refusal(&bomb),
            "the zip archive inflates to 1048577 bytes, at most 1048576 are allowed"
        );
        let two = vec![0; LIMITS.max_inflated_bytes as usize / 2 + 1];
        assert!(refusal(&pack(&[("a", &two), ("b", &two)])).contains("at most 1048576"));

        // A claim of ten bytes for a million: inflating stops at the eleventh.
        let mut liar = pack(&[("liar", &[0; 1_000_000])]);
        let at = line(&liar) + 24;
        liar[at..at + 4].copy_from_slice(&10u32.to_le_bytes());
        assert_eq!(
            refusal(&liar),
            "damaged zip archive: entry \"liar\" does not hold the 10 bytes that it claims"
        );
        let mut modest = pack(&[("modest", &[0; 10])]);
        let at = line(&modest) + 24;
        modest[at..at + 4].copy_from_slice(&1_000_000u32.to_le_bytes());
        assert!(refusal(&modest).contains("does not hold the 1000000 bytes"));
    }

    #[test]
    fn the_number_of_entries_is_bounded_before_they_are_read() {
        let names: Vec<String> = (0..9).map(|n| n.to_string()).collect();
        let entries: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b""[..])).collect();
        assert_eq!(
            read_all(&pack(&entries)).unwrap_err(),
            ArchiveError::TooManyEntries {
                entries: 9,
                allowed: 8
            }
        );
        assert_eq!(read_all(&pack(&entries[..8])).unwrap().len(), 8);
    }

    #[test]
    fn encrypted_foreign_and_split_archives_are_refused() {
        let sound = pack(&[("x", b"content")]);
        let changed = |offset: usize, value: u16| {
            let mut bytes = sound.clone();
            let at = line(&bytes) + offset;
            bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
            refusal(&bytes)
        };
        assert!(changed(8, 1).contains("without a password"));
        assert!(changed(10, 99).contains("without a password"));
        assert!(changed(10, 14).contains("method 14"));
        let end = |offset: usize, value: u16| {
            let mut bytes = sound.clone();
            let at = bytes.len() - END_BYTES + offset;
            bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
            refusal(&bytes)
        };
        assert!(end(4, 1).contains("split into several files"));
        assert!(end(10, u16::MAX).contains("ZIP64"));
        assert!(end(12, 1).contains("not where it says"));
        assert!(end(16, u16::MAX).contains("not where it says"));
    }

    #[test]
    fn no_cut_and_no_changed_byte_goes_unnoticed_or_panics() {
        let content: Vec<u8> = (0..2000u32).map(|i| ((i * i) >> 3) as u8).collect();
        let sound = pack(&[("a", &content), ("folder/b", b"short")]);
        let expected = read_all(&sound).unwrap();
        for length in 0..sound.len() {
            read_all(&sound[..length]).unwrap_err();
        }
        for at in 0..sound.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = sound.clone();
                bytes[at] ^= flip;
                // Names, times and attributes may change; what a file holds may not.
                if let Ok(read) = read_all(&bytes) {
                    for ((_, content), (_, expected)) in read.iter().zip(&expected) {
                        assert_eq!(content, expected, "byte {at}");
                    }
                }
            }
        }
    }
}
