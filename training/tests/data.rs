//! The data set on disk: what is read, what is refused and by which words, and the decoded cache.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use glioseg_shared::imaging::{
    Intensity, Limits, Mask, Slice, encode_mask_tiff, encode_slice_tiff,
};
use glioseg_training::data::cache::Origin;
use glioseg_training::data::{Cache, CachedPatient, DataError, Dataset, Split};
use tempfile::TempDir;
use tiff::encoder::{TiffEncoder, colortype};

const SIDE: usize = 16;

/// A slice and a mask that differ with `n`; every third mask is empty.
fn slice(n: usize) -> (Slice, Mask) {
    let values = (0..SIDE * SIDE * 3).map(|i| ((i * 7 + n * 31) % 256) as u8);
    let slice = Slice::new(SIDE, SIDE, values.collect(), Intensity::EightBit).unwrap();
    let set = (0..SIDE * SIDE).map(|i| !n.is_multiple_of(3) && (i + n).is_multiple_of(5));
    let mask = Mask::new(SIDE, SIDE, set.collect()).unwrap();
    (slice, mask)
}

fn write_slice(root: &Path, patient: &str, n: usize) {
    let folder = root.join(patient);
    fs::create_dir_all(&folder).unwrap();
    let (slice, mask) = slice(n);
    fs::write(
        folder.join(format!("{patient}_{n}.tif")),
        encode_slice_tiff(&slice),
    )
    .unwrap();
    fs::write(
        folder.join(format!("{patient}_{n}_mask.tif")),
        encode_mask_tiff(&mask),
    )
    .unwrap();
}

/// Two patients: `TCGA_CS_1` with slices 1, 2, 10 and `other` with slice 3.
fn study() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for n in [1, 2, 10] {
        write_slice(root.path(), "TCGA_CS_1", n);
    }
    write_slice(root.path(), "other", 3);
    fs::write(root.path().join("data.csv"), "Patient,grade\n").unwrap();
    root
}

fn build(root: &Path) -> Result<Cache, DataError> {
    build_in(root, None)
}

fn build_in(root: &Path, cache_dir: Option<&Path>) -> Result<Cache, DataError> {
    let dataset = Dataset::open(root)?;
    Cache::load_or_build(&dataset, cache_dir, &Limits::default(), &|_, _| ())
}

/// The error that opening or decoding gives, as text; no cache file may be left by it.
fn refusal(root: &Path) -> String {
    let error = build(root).unwrap_err().to_string();
    for entry in fs::read_dir(root).into_iter().flatten() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            !name.ends_with(".cache") && !name.ends_with(".partial"),
            "{name} was left behind"
        );
    }
    error
}

#[track_caller]
fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
}

fn tiff_of<C: colortype::ColorType>(pages: &[&[C::Inner]], width: u32, height: u32) -> Vec<u8>
where
    [C::Inner]: tiff::encoder::TiffValue,
{
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
    for page in pages {
        encoder.write_image::<C>(width, height, page).unwrap();
    }
    bytes.into_inner()
}

#[test]
fn lists_patients_and_slices_in_natural_order_and_ignores_other_files() {
    let root = study();
    fs::write(root.path().join("TCGA_CS_1/notes.txt"), "").unwrap();
    fs::create_dir(root.path().join(".hidden")).unwrap();
    let dataset = Dataset::open(root.path()).unwrap();
    let names: Vec<_> = dataset
        .patients()
        .iter()
        .flat_map(|patient| &patient.slices)
        .map(|slice| slice.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["TCGA_CS_1_1", "TCGA_CS_1_2", "TCGA_CS_1_10", "other_3"]
    );
    assert_eq!(dataset.files(), 4);
}

#[test]
fn looks_into_the_folder_that_the_archive_unpacks_to() {
    let root = tempfile::tempdir().unwrap();
    write_slice(&root.path().join("kaggle_3m"), "a", 1);
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(dataset.root(), root.path().join("kaggle_3m"));
    assert!(dataset.patient("a").is_some());
}

#[test]
fn selects_patients_and_refuses_strangers() {
    let root = study();
    let dataset = Dataset::open(root.path()).unwrap();
    let selected = dataset.select(&["other".to_owned()]).unwrap();
    assert_eq!(selected.patients().len(), 1);
    let error = dataset.select(&["nobody".to_owned()]).unwrap_err();
    assert_says(&error.to_string(), &["nobody"]);
}

/// Expected value: `sha256sum` of the files by name in the C locale, through `sha256sum` again.
#[test]
fn digest_is_what_sha256sum_gives() {
    let root = tempfile::tempdir().unwrap();
    for (name, contents) in [
        ("a/x_2.tif", "one"),
        ("a/x_2_mask.tif", "two"),
        ("a/x_10.tif", "three"),
        ("a/x_10_mask.tif", "four"),
        ("b/y.png", "five"),
        ("b/y_mask.png", "six"),
    ] {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(
        dataset.digest().unwrap(),
        "32227b593bd9667ee4d3bc3ba9bc7e279f68e2aca16d2ecd78bf2ef58a0641d9"
    );
}

#[test]
fn refuses_what_is_no_data_set() {
    let root = tempfile::tempdir().unwrap();
    assert_says(
        &refusal(&root.path().join("absent")),
        &["absent", "cannot be read"],
    );
    assert_says(&refusal(root.path()), &["no patients", "X_mask.tif"]);

    let file = root.path().join("data.csv");
    fs::write(&file, "").unwrap();
    assert_says(&refusal(&file), &["data.csv", "not a folder"]);

    fs::create_dir(root.path().join("patient")).unwrap();
    assert_says(&refusal(root.path()), &["patient: no slices"]);

    let root = study();
    fs::write(root.path().join("loose.tif"), "").unwrap();
    assert_says(&refusal(root.path()), &["loose.tif", "outside"]);
}

#[test]
fn refuses_slices_and_masks_that_do_not_pair_up() {
    let root = study();
    fs::remove_file(root.path().join("TCGA_CS_1/TCGA_CS_1_2_mask.tif")).unwrap();
    assert_says(
        &refusal(root.path()),
        &["TCGA_CS_1_2.tif: no mask", "TCGA_CS_1_2_mask.tif"],
    );

    let root = study();
    fs::remove_file(root.path().join("other/other_3.tif")).unwrap();
    assert_says(
        &refusal(root.path()),
        &["other_3_mask.tif: a mask without", "other_3.tif"],
    );

    for twin in ["other_3.png", "other_3_mask.TIFF"] {
        let root = study();
        fs::write(root.path().join("other").join(twin), "").unwrap();
        assert_says(&refusal(root.path()), &["other_3", twin, "keep one"]);
    }
}

#[cfg(unix)]
#[test]
fn leaves_out_what_is_amiss_with_single_slices() {
    let root = study();
    let path = |name: &str| root.path().join(name);
    assert_eq!(Dataset::open_skipping(root.path()).unwrap().1.len(), 0);
    fs::remove_file(path("TCGA_CS_1/TCGA_CS_1_1_mask.tif")).unwrap();
    fs::remove_file(path("TCGA_CS_1/TCGA_CS_1_2.tif")).unwrap();
    fs::write(path("loose.tif"), "").unwrap();
    fs::create_dir(path("empty")).unwrap();
    let (dataset, left_out) = Dataset::open_skipping(root.path()).unwrap();
    let said: Vec<_> = left_out.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 4, "{said:?}");
    let part = [
        "TCGA_CS_1_1.tif: no mask",
        "_2_mask.tif: a mask without",
        "loose.tif",
        "empty: no slices",
    ];
    assert_says(&said.join("\n"), &part);
    assert_eq!((dataset.patients().len(), dataset.files()), (2, 2));

    // What can be decoded is, and the rest is named and can be taken out.
    fs::write(path("other/other_3.tif"), "no image").unwrap();
    let other = dataset.patient("other").unwrap();
    let (decoded, faults) = CachedPatient::decode_skipping(other, &Limits::default());
    assert_eq!((decoded.slices.len(), faults.len()), (0, 1));
    assert_says(&faults[0].1.to_string(), &["other_3.tif"]);
    let sound = dataset.without(&[faults[0].0.clone()]);
    assert_eq!((sound.patients().len(), sound.files()), (1, 1));

    // Where nothing is left there is no data set.
    fs::remove_dir_all(path("other")).unwrap();
    fs::remove_file(path("TCGA_CS_1/TCGA_CS_1_10.tif")).unwrap();
    let error = Dataset::open_skipping(root.path()).unwrap_err().to_string();
    assert_says(&error, &["no patients"]);
}

#[cfg(unix)]
#[test]
fn a_collected_folder_may_hold_halves_of_slices_and_nothing_else_amiss() {
    let root = study();
    let path = |name: &str| root.path().join(name);
    assert_eq!(Dataset::open_collected(root.path()).unwrap().1.len(), 0);
    fs::remove_file(path("TCGA_CS_1/TCGA_CS_1_1_mask.tif")).unwrap();
    fs::remove_file(path("TCGA_CS_1/TCGA_CS_1_2.tif")).unwrap();
    fs::remove_file(path("other/other_3.tif")).unwrap();
    fs::create_dir(path("empty")).unwrap();
    let (dataset, left_out) = Dataset::open_collected(root.path()).unwrap();
    let said: Vec<_> = left_out.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 4, "{said:?}");
    let part = [
        "_1_1.tif: no",
        "_2_mask.tif: a",
        "3_mask.tif: a",
        "empty: no",
    ];
    assert_says(&said.join("\n"), &part);
    assert_eq!((dataset.patients().len(), dataset.files()), (1, 1));

    // No function writes such a file.
    fs::write(path("loose.tif"), "").unwrap();
    let error = Dataset::open_collected(root.path()).unwrap_err();
    assert_says(&error.to_string(), &["loose.tif"]);
}

#[test]
fn a_split_is_restricted_to_the_patients_that_are_there() {
    let root = study();
    let dataset = Dataset::open(root.path()).unwrap();
    let split = |validation: &str| {
        let json = format!(
            r#"{{"train":["TCGA_CS_1","gone"],"validation":["{validation}"],"test":["gone too"]}}"#
        );
        Split::from_json(json.as_bytes()).unwrap()
    };
    let (restricted, left_out) = split("other").restrict(&dataset).unwrap();
    assert_eq!(restricted.train, ["TCGA_CS_1"]);
    assert_eq!(restricted.test, [""; 0]);
    assert_eq!(left_out, ["gone", "gone too"]);
    let error = split("stranger").restrict(&dataset).unwrap_err();
    assert_says(&error.to_string(), &["validation names no patient"]);
}

#[test]
fn refuses_names_that_no_split_can_spell() {
    use std::os::unix::ffi::OsStrExt;
    let root = study();
    let name = std::ffi::OsStr::from_bytes(b"\xff");
    fs::create_dir(root.path().join(name)).unwrap();
    let error = build(root.path()).unwrap_err();
    assert!(matches!(error, DataError::NameNotUtf8 { .. }), "{error}");
}

#[test]
fn refuses_a_giant_file_unread() {
    let root = study();
    let path = root.path().join("other/other_3.tif");
    let file = fs::File::create(&path).unwrap();
    file.set_len((1 << 30) + 1).unwrap();
    assert_says(&refusal(root.path()), &["other_3.tif", "1073741825 bytes"]);
}

#[test]
fn names_the_file_that_cannot_be_decoded() {
    let gray = vec![0u8; SIDE * SIDE];
    let side = SIDE as u32;
    let sound = encode_slice_tiff(&slice(3).0);
    let mut nan = vec![0f32; SIDE * SIDE];
    nan[5] = f32::NAN;
    let mut giant = tiff_of::<colortype::Gray8>(&[&gray], side, side);
    // Both sides stand as little-endian longs in the directory; make them larger than any limit.
    for at in 0..giant.len() - 4 {
        if giant[at..at + 4] == side.to_le_bytes() && at >= 8 + gray.len() {
            giant[at..at + 4].copy_from_slice(&1_000_000u32.to_le_bytes());
        }
    }
    let images: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("neither TIFF nor PNG", b"not an image".to_vec()),
        ("TIFF", sound[..sound.len() / 2].to_vec()),
        (
            "TIFF",
            tiff_of::<colortype::CMYK8>(&[&vec![0; SIDE * SIDE * 4]], side, side),
        ),
        (
            "not a finite number",
            tiff_of::<colortype::Gray32Float>(&[&nan], side, side),
        ),
        ("too large", giant),
    ];
    for (said, bytes) in images {
        let root = study();
        fs::write(root.path().join("other/other_3.tif"), bytes).unwrap();
        assert_says(&refusal(root.path()), &["other_3.tif: ", said]);
    }

    let mut values = gray.clone();
    values[..2].copy_from_slice(&[1, 2]);
    let wide = Mask::empty(2 * SIDE, SIDE);
    let masks: [(&str, Vec<u8>); 3] = [
        (
            "no mask",
            tiff_of::<colortype::Gray8>(&[&values], side, side),
        ),
        ("32x16, its slice is 16x16", encode_mask_tiff(&wide)),
        (
            "2 pages of masks for 1 pages",
            tiff_of::<colortype::Gray8>(&[&gray, &gray], side, side),
        ),
    ];
    for (said, bytes) in masks {
        let root = study();
        fs::write(root.path().join("other/other_3_mask.tif"), bytes).unwrap();
        assert_says(&refusal(root.path()), &["other_3_mask.tif: ", said]);
    }
}

#[test]
fn decodes_every_slice_once_and_then_reopens_the_same() {
    let root = study();
    let dataset = Dataset::open(root.path()).unwrap();
    let (calls, last) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let built = Cache::load_or_build(&dataset, None, &Limits::default(), &|done, total| {
        assert_eq!(total, 4);
        calls.fetch_add(1, Ordering::Relaxed);
        last.fetch_max(done, Ordering::Relaxed);
    })
    .unwrap();
    assert_eq!((calls.into_inner(), last.into_inner()), (4, 4));
    assert_ne!(*built.origin(), Origin::Reopened);

    let patient = built.patient("TCGA_CS_1").unwrap();
    for (i, n) in [1, 2, 10].into_iter().enumerate() {
        let (slice, mask) = slice(n);
        assert_eq!(patient.names[i], format!("TCGA_CS_1_{n}"));
        assert_eq!(patient.slices[i], slice);
        assert_eq!(patient.masks[i], mask);
    }
    assert_eq!(patient.summary().tumour_slices, 3);
    assert_eq!(
        built.patient("other").unwrap().summary().tumour_slices,
        0,
        "slice 3 is empty"
    );

    let again = build(root.path()).unwrap();
    assert_eq!(*again.origin(), Origin::Reopened);
    assert_eq!(again.patients(), built.patients());
}

#[test]
fn keeps_pages_as_slices_and_rescaled_intensities_exactly() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("volume");
    fs::create_dir(&folder).unwrap();
    let page = |n: u16| -> Vec<u16> { (0..35).map(|i| i * 1001 + n).collect() };
    let image = tiff_of::<colortype::Gray16>(&[&page(1), &page(2)], 7, 5);
    let empty = vec![0u8; 35];
    let mut odd = empty.clone();
    odd[34] = 255;
    fs::write(folder.join("scan.tif"), image).unwrap();
    fs::write(
        folder.join("scan_mask.tif"),
        tiff_of::<colortype::Gray8>(&[&empty, &odd], 7, 5),
    )
    .unwrap();

    let built = build(root.path()).unwrap();
    let volume = built.patient("volume").unwrap();
    assert_eq!(volume.names, ["scan#1", "scan#2"]);
    assert_eq!(
        volume.masks.iter().map(Mask::area).collect::<Vec<_>>(),
        [0, 1]
    );
    assert!(matches!(
        volume.slices[0].intensity(),
        Intensity::Rescaled { .. }
    ));
    let again = build(root.path()).unwrap();
    assert_eq!(*again.origin(), Origin::Reopened);
    assert_eq!(again.patients(), built.patients());
}

#[test]
fn decodes_again_when_the_data_have_changed() {
    let root = study();
    let before = build(root.path()).unwrap();
    write_slice(root.path(), "other", 4);
    let after = build(root.path()).unwrap();
    assert_eq!(after.path(), before.path());
    assert!(matches!(after.origin(), Origin::Decoded { reason } if reason.contains("changed")));
    assert_eq!(after.patient("other").unwrap().slices.len(), 2);

    // Same size, other contents: the time of change tells.
    let path = root.path().join("other/other_4.tif");
    fs::write(&path, encode_slice_tiff(&slice(5).0)).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let changed = build(root.path()).unwrap();
    assert_eq!(changed.patient("other").unwrap().slices[1], slice(5).0);
}

#[test]
fn rebuilds_a_damaged_cache_wherever_it_is_damaged() {
    let root = study();
    let built = build(root.path()).unwrap();
    let sound = fs::read(built.path()).unwrap();
    let check = |bytes: &[u8], what: &str| {
        fs::write(built.path(), bytes).unwrap();
        let again = build(root.path()).unwrap();
        assert_ne!(*again.origin(), Origin::Reopened, "{what}");
        assert_eq!(again.patients(), built.patients(), "{what}");
        assert_eq!(fs::read(built.path()).unwrap(), sound, "{what}");
    };
    for at in (0..sound.len())
        .step_by(97)
        .chain([44, 51, sound.len() - 1])
    {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x40;
        check(&damaged, &format!("byte {at} changed"));
    }
    for length in [0, 10, 83, 84, 200, sound.len() - 1] {
        check(&sound[..length], &format!("cut to {length} bytes"));
    }
    check(&[sound.as_slice(), b"x"].concat(), "one byte more");
}

#[test]
fn caches_of_other_folders_and_other_patients_have_files_of_their_own() {
    let (first, second, caches) = (study(), study(), tempfile::tempdir().unwrap());
    let chosen = caches.path().join("made/on/demand");
    let a = build_in(first.path(), Some(&chosen)).unwrap();
    let b = build_in(second.path(), Some(&chosen)).unwrap();
    assert_ne!(a.path(), b.path());
    assert!(a.path().starts_with(&chosen));
    let part = Dataset::open(first.path())
        .unwrap()
        .select(&["other".to_owned()])
        .unwrap();
    let c = Cache::load_or_build(&part, Some(&chosen), &Limits::default(), &|_, _| ()).unwrap();
    assert_ne!(a.path(), c.path());
    assert_eq!(c.patients().len(), 1);
    let again = build_in(first.path(), Some(&chosen)).unwrap();
    assert_eq!(*again.origin(), Origin::Reopened);
}

#[test]
fn stricter_limits_are_not_bypassed_by_the_cache() {
    let root = study();
    build(root.path()).unwrap();
    let dataset = Dataset::open(root.path()).unwrap();
    let limits = Limits {
        max_side: 8,
        ..Limits::default()
    };
    let error = Cache::load_or_build(&dataset, None, &limits, &|_, _| ()).unwrap_err();
    assert_says(&error.to_string(), &[".tif: too large: 16"]);
}

#[test]
fn says_which_cache_file_cannot_be_written() {
    let root = study();
    let blocked = root.path().join("data.csv").join("cache");
    let error = build_in(root.path(), Some(&blocked)).unwrap_err();
    assert_says(&error.to_string(), &["data.csv", "cannot be written"]);
}

#[test]
fn real_split_fits_the_real_data() {
    let Some(lgg) = glioseg_test_support::lgg() else {
        return;
    };
    let split = Split::read(&lgg.split).unwrap();
    assert_eq!(
        (split.train.len(), split.validation.len(), split.test.len()),
        (71, 11, 12)
    );
    assert_eq!(split.folds.len(), 5);
    split
        .check_against(&Dataset::open(&lgg.folder).unwrap())
        .unwrap();
}

/// The manifest beside the data gives each slice's tumour pixels and the SHA-256 of its files.
#[test]
fn real_slices_agree_with_their_manifest() {
    let Some(lgg) = glioseg_test_support::lgg() else {
        return;
    };
    let manifest = match fs::read_to_string(lgg.split.with_file_name("manifest.csv")) {
        Ok(manifest) => manifest,
        Err(error) => {
            glioseg_test_support::missing(&format!("no manifest.csv beside the split: {error}"));
            return;
        }
    };
    let split = Split::read(&lgg.split).unwrap();
    let dataset = Dataset::open(&lgg.folder)
        .unwrap()
        .select(&split.validation[..2])
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits::default();
    let cache = Cache::load_or_build(&dataset, Some(folder.path()), &limits, &|_, _| ()).unwrap();
    let mut expected = Vec::new();
    for line in manifest.lines().skip(1) {
        let fields: Vec<_> = line.split(',').collect();
        if dataset.patient(fields[0]).is_some() {
            expected.push((
                format!("{}_{}", fields[0], fields[1]),
                fields[3].parse::<u64>().unwrap(),
            ));
        }
    }
    let mut found: Vec<_> = cache
        .patients()
        .iter()
        .flat_map(|patient| patient.names.iter().cloned().zip(&patient.masks))
        .map(|(name, mask)| (name, mask.area()))
        .collect();
    expected.sort();
    found.sort();
    assert!(!expected.is_empty());
    assert_eq!(found, expected);
    let again = Cache::load_or_build(&dataset, Some(folder.path()), &limits, &|_, _| ()).unwrap();
    assert_eq!(*again.origin(), Origin::Reopened);
    assert_eq!(again.patients(), cache.patients());
}

#[test]
fn split_names_the_patients_that_the_data_lack() {
    let root = study();
    let dataset = Dataset::open(root.path()).unwrap();
    let split = Split::from_json(
        br#"{"train": ["TCGA_CS_1"], "validation": ["other", "gone"], "test": ["away"]}"#,
    )
    .unwrap();
    let error = split.check_against(&dataset).unwrap_err().to_string();
    assert_says(&error, &["2 of the split's", "gone (validation)"]);
}

#[test]
fn split_files_come_back_and_errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("split.json");
    let split = Split::from_json(br#"{"train": ["a"], "validation": ["b"], "test": []}"#).unwrap();
    split.write(&path).unwrap();
    assert_eq!(Split::read(&path).unwrap(), split);

    fs::write(
        &path,
        r#"{"train": ["a"], "validation": ["a"], "test": []}"#,
    )
    .unwrap();
    let error = Split::read(&path).unwrap_err().to_string();
    assert_says(
        &error,
        &["split.json: patient a", "twice", "train", "validation"],
    );

    let file = fs::File::create(&path).unwrap();
    file.set_len((16 << 20) + 1).unwrap();
    assert_says(
        &Split::read(&path).unwrap_err().to_string(),
        &["split.json: 16777217 bytes"],
    );
}
