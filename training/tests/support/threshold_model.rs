//! A model whose every output is known by hand: a threshold on FLAIR, as a 1x1 convolution.

use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::grid::Fit;
use glioseg_shared::model::contract::{
    CONTRACT_VERSION, Input, LABEL, METADATA_KEY, NON_8_BIT_PERCENTILES, NOTICE, Normalization,
    Postprocessing, Preprocessing, Provenance, Score, Unit,
};
use glioseg_shared::model::{Contract, INPUT, OUTPUT};
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::Dimension;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimensionValue;
use tract_onnx::pb::type_proto::{Tensor, Value as TypeValue};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
};

/// How steeply the logit rises with the intensity.
const GAIN: f32 = 50.0;

/// An ONNX file for slices of `side` pixels a side that marks what is at least as bright as `level`
/// (0..=1) on FLAIR. Its split digest is that of the empty text.
pub fn threshold_model(version: &str, level: f32, side: u32, scores: Vec<Score>) -> Vec<u8> {
    let contract = Contract {
        contract_version: CONTRACT_VERSION,
        model_version: version.to_owned(),
        network: "a threshold on FLAIR".to_owned(),
        label: LABEL.to_owned(),
        unit: Unit::Slice,
        input: Input {
            channels: Input::CHANNELS.to_vec(),
            width: side,
            height: side,
            fit: Fit::ShrinkPad,
        },
        preprocessing: Preprocessing {
            non_8_bit_percentiles: NON_8_BIT_PERCENTILES,
            normalization: Normalization::Unit,
        },
        postprocessing: Postprocessing {
            threshold: 0.5,
            fill_holes: false,
            seed_probability: None,
            minimum_component_pixels: 0,
            keep_largest: false,
        },
        provenance: Provenance {
            data: "none".to_owned(),
            data_digest: sha256_hex(b""),
            split: "none".to_owned(),
            split_digest: sha256_hex(b""),
            seed: 0,
            commit: "0".to_owned(),
        },
        scores,
        licence: "CC-BY-NC-SA-4.0".to_owned(),
        notice: NOTICE.to_owned(),
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: 17,
        }],
        graph: Some(GraphProto {
            name: "threshold".to_owned(),
            node: vec![NodeProto {
                name: "conv".to_owned(),
                op_type: "Conv".to_owned(),
                input: [INPUT, "weight", "bias"].map(str::to_owned).to_vec(),
                output: vec![OUTPUT.to_owned()],
                ..Default::default()
            }],
            initializer: vec![
                constant("weight", &[1, 3, 1, 1], &[0.0, GAIN, 0.0]),
                constant("bias", &[1], &[-GAIN * level]),
            ],
            input: vec![value(INPUT, 3, side)],
            output: vec![value(OUTPUT, 1, side)],
            ..Default::default()
        }),
        metadata_props: vec![StringStringEntryProto {
            key: METADATA_KEY.to_owned(),
            value: contract.to_json().unwrap(),
        }],
        ..Default::default()
    }
    .encode_to_vec()
}

fn constant(name: &str, dims: &[i64], float_data: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data: float_data.to_vec(),
        ..Default::default()
    }
}

fn value(name: &str, channels: i64, side: u32) -> ValueInfoProto {
    let dimension = |size| Dimension {
        value: Some(DimensionValue::DimValue(size)),
        ..Default::default()
    };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(TypeValue::TensorType(Tensor {
                elem_type: DataType::Float as i32,
                shape: Some(TensorShapeProto {
                    dim: [1, channels, i64::from(side), i64::from(side)]
                        .map(dimension)
                        .to_vec(),
                }),
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}
