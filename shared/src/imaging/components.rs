//! Connected components of masks and of stacks of masks.
//!
//! Rows are cut into runs of pixels, and runs that touch are united by union-find with path halving,
//! so that nearly all work grows with the number of runs, not of pixels. Method: L. He, Y. Chao,
//! K. Suzuki, A Run-Based Two-Scan Labeling Algorithm, IEEE Transactions on Image Processing 17
//! (2008).

use std::ops::Range;

use super::{BoundingBox, Mask, ProbabilityMap};

/// Which neighbours of a pixel belong to its component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Connectivity {
    /// Those that share a side: 4 in a slice, 6 in a volume.
    Sides,
    /// Those that share at least a corner: 8 in a slice, 26 in a volume.
    #[default]
    Corners,
}

/// A connected set of pixels of one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// Number of pixels.
    pub area: u64,
    /// The smallest rectangle that holds them.
    pub bounds: BoundingBox,
}

/// A connected set of pixels of a stack of slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component3 {
    /// Number of pixels in all slices.
    pub volume: u64,
    /// The slices that hold them.
    pub slices: Range<usize>,
    /// The smallest rectangle that holds them in every slice.
    pub bounds: BoundingBox,
}

/// A slice is not as large as the first of its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("slice {index} has {}x{} pixels, slice 0 has {}x{}", actual.0, actual.1, first.0, first.1)]
pub struct UnequalSlices {
    /// Position in the stack.
    pub index: usize,
    /// Columns and rows of this slice.
    pub actual: (usize, usize),
    /// Columns and rows of the first slice.
    pub first: (usize, usize),
}

/// The components of a mask, in the order of their first pixels, row by row.
#[derive(Clone, Debug)]
pub struct Components {
    width: usize,
    height: usize,
    runs: Vec<Run>,
    components: Vec<Component>,
}

impl Components {
    /// All components.
    #[must_use]
    pub fn as_slice(&self) -> &[Component] {
        &self.components
    }

    /// Number of components.
    #[must_use]
    pub fn len(&self) -> usize {
        self.components.len()
    }

    /// Whether the mask was empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }

    /// The largest component, the first of those that are equally large.
    #[must_use]
    pub fn largest(&self) -> Option<usize> {
        first_largest(self.components.iter().map(|component| component.area))
    }

    /// For every pixel, row by row, 0 outside the mask, else 1 + the position of its component.
    #[must_use]
    pub fn labels(&self) -> Vec<usize> {
        let mut labels = vec![0; self.width * self.height];
        for run in &self.runs {
            labels[run.pixels(self.width)].fill(run.group + 1);
        }
        labels
    }

    /// The mask of the components for which `wanted` holds, given their position.
    #[must_use]
    pub fn keep(&self, wanted: impl Fn(usize, &Component) -> bool) -> Mask {
        let wanted: Vec<bool> = self
            .components
            .iter()
            .enumerate()
            .map(|(index, component)| wanted(index, component))
            .collect();
        let mut mask = Mask::empty(self.width, self.height);
        for run in self.runs.iter().filter(|run| wanted[run.group]) {
            mask.pixels_mut()[run.pixels(self.width)].fill(true);
        }
        mask
    }
}

/// The components of a stack of masks, in the order of their first pixels, slice by slice.
#[derive(Clone, Debug)]
pub struct Components3 {
    width: usize,
    height: usize,
    depth: usize,
    runs: Vec<Run>,
    components: Vec<Component3>,
}

impl Components3 {
    /// All components.
    #[must_use]
    pub fn as_slice(&self) -> &[Component3] {
        &self.components
    }

    /// Number of components.
    #[must_use]
    pub fn len(&self) -> usize {
        self.components.len()
    }

    /// Whether all masks were empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }

    /// The largest component, the first of those that are equally large.
    #[must_use]
    pub fn largest(&self) -> Option<usize> {
        first_largest(self.components.iter().map(|component| component.volume))
    }

    /// For every pixel, slice by slice and row by row, 0 outside the masks, else 1 + the position of
    /// its component.
    #[must_use]
    pub fn labels(&self) -> Vec<usize> {
        let mut labels = vec![0; self.width * self.height * self.depth];
        for run in &self.runs {
            labels[run.pixels(self.width)].fill(run.group + 1);
        }
        labels
    }

    /// The masks of the components for which `wanted` holds, given their position.
    #[must_use]
    pub fn keep(&self, wanted: impl Fn(usize, &Component3) -> bool) -> Vec<Mask> {
        let wanted: Vec<bool> = self
            .components
            .iter()
            .enumerate()
            .map(|(index, component)| wanted(index, component))
            .collect();
        let mut masks: Vec<Mask> = (0..self.depth)
            .map(|_| Mask::empty(self.width, self.height))
            .collect();
        for run in self.runs.iter().filter(|run| wanted[run.group]) {
            let (slice, row) = (run.row / self.height, run.row % self.height);
            let start = row * self.width;
            masks[slice].pixels_mut()[start + run.start..start + run.end].fill(true);
        }
        masks
    }
}

/// Finds the components of a mask.
#[must_use]
pub fn label_2d(mask: &Mask, connectivity: Connectivity) -> Components {
    let (width, height) = (mask.width(), mask.height());
    let Labelled { runs, groups } = label(std::slice::from_ref(mask), height, connectivity);
    Components {
        width,
        height,
        runs,
        components: groups
            .iter()
            .map(|group| Component {
                area: group.size,
                bounds: group.bounds(),
            })
            .collect(),
    }
}

/// Finds the components of a stack of masks, one above the other; no masks have no components.
///
/// # Errors
/// [`UnequalSlices`] when the masks differ in width or height.
pub fn label_3d(masks: &[Mask], connectivity: Connectivity) -> Result<Components3, UnequalSlices> {
    let size = |mask: &Mask| (mask.width(), mask.height());
    let first @ (width, height) = masks.first().map_or((0, 0), size);
    if let Some(index) = masks.iter().position(|mask| size(mask) != first) {
        return Err(UnequalSlices {
            index,
            actual: size(&masks[index]),
            first,
        });
    }
    let Labelled { runs, groups } = label(masks, height, connectivity);
    Ok(Components3 {
        width,
        height,
        depth: masks.len(),
        runs,
        components: groups
            .iter()
            .map(|group| Component3 {
                volume: group.size,
                slices: group.slices.clone(),
                bounds: group.bounds(),
            })
            .collect(),
    })
}

/// The mask without its components (8-connected) of fewer than `min_pixels` pixels.
#[must_use]
pub fn remove_small(mask: &Mask, min_pixels: u64) -> Mask {
    label_2d(mask, Connectivity::Corners).keep(|_, component| component.area >= min_pixels)
}

/// The largest component (8-connected) of a mask, the first of those that are equally large.
#[must_use]
pub fn keep_largest(mask: &Mask) -> Mask {
    let components = label_2d(mask, Connectivity::Corners);
    let largest = components.largest();
    components.keep(|index, _| Some(index) == largest)
}

/// The masks without their components (26-connected) of fewer than `min_voxels` pixels in all
/// slices.
///
/// # Errors
/// [`UnequalSlices`] when the masks differ in width or height.
pub fn remove_small_3d(masks: &[Mask], min_voxels: u64) -> Result<Vec<Mask>, UnequalSlices> {
    let components = label_3d(masks, Connectivity::Corners)?;
    Ok(components.keep(|_, component| component.volume >= min_voxels))
}

/// The largest component (26-connected) of a stack of masks, the first of those that are equally
/// large.
///
/// # Errors
/// [`UnequalSlices`] when the masks differ in width or height.
pub fn keep_largest_3d(masks: &[Mask]) -> Result<Vec<Mask>, UnequalSlices> {
    let components = label_3d(masks, Connectivity::Corners)?;
    let largest = components.largest();
    Ok(components.keep(|index, _| Some(index) == largest))
}

/// The components (8-connected) of a mask that hold a pixel of at least `seed`.
///
/// # Panics
/// When mask and probabilities differ in size.
#[must_use]
pub fn keep_seeded(mask: &Mask, probabilities: &ProbabilityMap, seed: f32) -> Mask {
    let components = label_2d(mask, Connectivity::Corners);
    let probabilities = std::slice::from_ref(probabilities);
    let seeded = seeded(&components.runs, components.len(), probabilities, seed);
    components.keep(|index, _| seeded[index])
}

/// The components (26-connected) of a stack of masks that hold a pixel of at least `seed`.
///
/// # Errors
/// [`UnequalSlices`] when the masks differ in width or height.
///
/// # Panics
/// When there are not as many probability maps as masks, of the same size.
pub fn keep_seeded_3d(
    masks: &[Mask],
    probabilities: &[ProbabilityMap],
    seed: f32,
) -> Result<Vec<Mask>, UnequalSlices> {
    let components = label_3d(masks, Connectivity::Corners)?;
    let seeded = seeded(&components.runs, components.len(), probabilities, seed);
    Ok(components.keep(|index, _| seeded[index]))
}

/// For each of so many components, whether one of its runs holds a pixel of at least `seed`.
fn seeded(runs: &[Run], components: usize, slices: &[ProbabilityMap], seed: f32) -> Vec<bool> {
    let Some(first) = slices.first() else {
        return Vec::new();
    };
    let (width, height) = (first.width(), first.height());
    let mut seeded = vec![false; components];
    for run in runs {
        let row = run.row % height * width;
        let values = &slices[run.row / height].values()[row + run.start..row + run.end];
        seeded[run.group] |= values.iter().any(|&value| value >= seed);
    }
    seeded
}

/// The mask with its holes: the background (4-connected) that does not reach the border.
#[must_use]
pub fn fill_holes(mask: &Mask) -> Mask {
    if mask.is_empty() {
        return mask.clone();
    }
    let (width, height) = (mask.width(), mask.height());
    let mut background = Mask::empty(width, height);
    for (outside, &inside) in background.pixels_mut().iter_mut().zip(mask.pixels()) {
        *outside = !inside;
    }
    let holes = label_2d(&background, Connectivity::Sides).keep(|_, component| {
        let BoundingBox {
            x,
            y,
            width: columns,
            height: rows,
        } = component.bounds;
        x > 0 && y > 0 && x + columns < width && y + rows < height
    });
    let mut filled = mask.clone();
    for (pixel, &hole) in filled.pixels_mut().iter_mut().zip(holes.pixels()) {
        *pixel |= hole;
    }
    filled
}

fn first_largest(sizes: impl Iterator<Item = u64>) -> Option<usize> {
    // `max_by_key` would take the last of equals.
    sizes
        .enumerate()
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
        .map(|(index, _)| index)
}

/// Neighbouring pixels of one row, all set: columns `start..end`.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Row, counted through all slices.
    row: usize,
    start: usize,
    end: usize,
    /// While runs are united: an earlier run of the same component, or itself. Then: the component.
    group: usize,
}

impl Run {
    fn pixels(&self, width: usize) -> Range<usize> {
        self.row * width + self.start..self.row * width + self.end
    }
}

/// What is gathered of a component.
struct Group {
    size: u64,
    slices: Range<usize>,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Group {
    fn bounds(&self) -> BoundingBox {
        BoundingBox {
            x: self.columns.start,
            y: self.rows.start,
            width: self.columns.len(),
            height: self.rows.len(),
        }
    }
}

struct Labelled {
    runs: Vec<Run>,
    groups: Vec<Group>,
}

/// Labels masks that are all `height` rows high and equally wide.
fn label(masks: &[Mask], height: usize, connectivity: Connectivity) -> Labelled {
    let reach = match connectivity {
        Connectivity::Sides => 0,
        Connectivity::Corners => 1,
    };
    let mut runs = Vec::new();
    // Row r has the runs firsts[r]..firsts[r + 1].
    let mut firsts = Vec::with_capacity(masks.len() * height + 1);
    firsts.push(0);
    for (slice, mask) in masks.iter().enumerate() {
        for (y, pixels) in mask.pixels().chunks_exact(mask.width()).enumerate() {
            let row = slice * height + y;
            push_runs(&mut runs, row, pixels);
            firsts.push(runs.len());
            let here = firsts[row]..firsts[row + 1];
            if here.is_empty() {
                continue;
            }
            let mut unite_with = |other: usize| {
                unite_touching(
                    &mut runs,
                    firsts[other]..firsts[other + 1],
                    here.clone(),
                    reach,
                );
            };
            if y > 0 {
                unite_with(row - 1);
            }
            if slice > 0 {
                let below = (slice - 1) * height;
                for y in y.saturating_sub(reach)..=(y + reach).min(height - 1) {
                    unite_with(below + y);
                }
            }
        }
    }
    let groups = gather(&mut runs, height);
    Labelled { runs, groups }
}

/// Appends the runs of a row, each a component of its own.
fn push_runs(runs: &mut Vec<Run>, row: usize, pixels: &[bool]) {
    let mut start = None;
    let mut flip = |column: usize| match start.take() {
        None => start = Some(column),
        Some(start) => runs.push(Run {
            row,
            start,
            end: column,
            group: runs.len(),
        }),
    };
    let mut last = 0;
    for (word, pixels) in pixels.chunks(64).enumerate() {
        let bits = pack(pixels);
        let mut changes = bits ^ (bits << 1 | last);
        while changes != 0 {
            flip(word * 64 + changes.trailing_zeros() as usize);
            changes &= changes - 1;
        }
        last = bits >> 63;
    }
    if last == 1 {
        flip(pixels.len());
    }
}

/// Packs at most 64 pixels into bits, the first into the lowest.
fn pack(pixels: &[bool]) -> u64 {
    // Each factor's bit moves one of eight bytes into its place of the top byte; no two products
    // meet in a bit, so that nothing carries.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (eights, rest) = pixels.as_chunks::<8>();
    let bits = eights.iter().enumerate().fold(0, |bits, (i, eight)| {
        let bytes = u64::from_le_bytes(eight.map(u8::from));
        bits | bytes.wrapping_mul(GATHER) >> 56 << (8 * i)
    });
    rest.iter().enumerate().fold(bits, |bits, (i, &set)| {
        bits | u64::from(set) << (8 * eights.len() + i)
    })
}

/// Unites the runs of two rows that overlap, or come within `reach` columns of that.
fn unite_touching(runs: &mut [Run], others: Range<usize>, here: Range<usize>, reach: usize) {
    let (mut other, mut this) = (others.start, here.start);
    while other < others.end && this < here.end {
        let (a, b) = (runs[other], runs[this]);
        if a.start < b.end + reach && b.start < a.end + reach {
            let (a, b) = (root(runs, other), root(runs, this));
            // The first run stays the root, which puts components in the order of their first pixels.
            runs[a.max(b)].group = a.min(b);
        }
        if a.end < b.end {
            other += 1;
        } else {
            this += 1;
        }
    }
}

fn root(runs: &mut [Run], mut run: usize) -> usize {
    while runs[run].group != run {
        let parent = runs[run].group;
        runs[run].group = runs[parent].group;
        run = runs[run].group;
    }
    run
}

/// Numbers the components, and writes into every run which one it belongs to.
fn gather(runs: &mut [Run], height: usize) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for index in 0..runs.len() {
        let run = runs[index];
        let (slice, y) = (run.row / height, run.row % height);
        let size = (run.end - run.start) as u64;
        if run.group == index {
            runs[index].group = groups.len();
            groups.push(Group {
                size,
                slices: slice..slice + 1,
                rows: y..y + 1,
                columns: run.start..run.end,
            });
            continue;
        }
        // Parents come before their children, so that this one has its number already.
        let number = runs[run.group].group;
        runs[index].group = number;
        let group = &mut groups[number];
        group.size += size;
        group.slices.end = slice + 1;
        group.rows = group.rows.start.min(y)..group.rows.end.max(y + 1);
        group.columns = group.columns.start.min(run.start)..group.columns.end.max(run.end);
    }
    groups
}
