//! Products of row-major matrices.
#![allow(unsafe_code)] // the one call of `gemm`, which takes raw pointers

use gemm::Parallelism;

/// A row-major matrix, or its transpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows * columns` values, row after row.
    pub(super) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// Rows of `columns` values that begin `stride` values apart.
    pub(super) fn strided(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(
            rows > 0 && columns > 0 && stride >= columns,
            "a matrix has values"
        );
        assert!(
            (rows - 1) * stride + columns <= values.len(),
            "enough values"
        );
        Self {
            values,
            rows,
            columns,
            row_stride: stride,
            column_stride: 1,
        }
    }

    /// Rows become columns.
    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// `out += a * b`, where the rows of `out` begin `stride` values apart; single-threaded, always in the same order.
pub(super) fn add_product(out: &mut [f32], stride: usize, a: Matrix<'_>, b: Matrix<'_>) {
    let (rows, columns, depth) = (a.rows, b.columns, a.columns);
    assert_eq!(depth, b.rows, "matrices that can be multiplied");
    assert!(stride >= columns, "rows of the result must not overlap");
    assert!((rows - 1) * stride + columns <= out.len(), "enough room");
    // SAFETY: `Matrix` guarantees that every element at row * row_stride + column * column_stride of `a` and `b` lies
    // in its slice, the assertions above the same for `out`; `out` is borrowed mutably, so nothing else aliases it.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            out.as_mut_ptr(),
            1,
            stride as isize,
            true,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
