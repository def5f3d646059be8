//! What must hold of the contract of a model file for any bytes.

use glioseg_shared::model::Contract;

/// Reads the bytes as an ONNX file with a contract, and as the contract itself.
///
/// # Panics
/// When reading does, or when a contract that was accepted is refused after it was written.
pub(crate) fn read(bytes: &[u8]) {
    let alone = std::str::from_utf8(bytes)
        .ok()
        .and_then(|json| Contract::from_json(json).ok());
    for contract in alone.into_iter().chain(Contract::of_onnx(bytes)) {
        let json = contract.to_json().expect("what was read is valid");
        let again = Contract::from_json(&json).expect("what was written is read");
        // The figures may have lost a last digit on their way through decimal numbers.
        assert_eq!(again.model_version, contract.model_version);
        assert_eq!(again.input, contract.input);
    }
}
