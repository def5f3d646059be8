//! What must hold of split files for any bytes.

use glioseg_training::data::Split;

/// Reads the bytes as a split.
///
/// # Panics
/// When reading does, when an accepted split names a patient twice, or when it is another one after it was written.
pub(crate) fn read(bytes: &[u8]) {
    let Ok(split) = Split::from_json(bytes) else {
        return;
    };
    let mut patients: Vec<&String> = [&split.train, &split.validation, &split.test]
        .into_iter()
        .flatten()
        .collect();
    let listed = patients.len();
    patients.sort();
    patients.dedup();
    assert_eq!(patients.len(), listed, "a patient is named twice");
    for fold in 0..split.folds.len() {
        // Refused where it would leave nobody to train on.
        let _ = split.fold(fold);
    }
    assert_eq!(
        split.all_folds().train.len(),
        split.train.len() + split.validation.len()
    );
    let json = serde_json::to_vec(&split).expect("a split can be written");
    let again = Split::from_json(&json).expect("what was written is read");
    assert_eq!(again, split);
}
