//! Components and contours of masks against SciPy, scikit-image and what must hold for any mask.

#![allow(clippy::unwrap_used)]

use glioseg_shared::imaging::components::{
    Connectivity, fill_holes, keep_largest, keep_largest_3d, keep_seeded, keep_seeded_3d, label_2d,
    label_3d, remove_small, remove_small_3d,
};
use glioseg_shared::imaging::contour::contours;
use glioseg_shared::imaging::{BoundingBox, Mask, ProbabilityMap};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Goldens {
    flat: Vec<Flat>,
    deep: Vec<Deep>,
}

#[derive(Deserialize)]
struct Flat {
    name: String,
    shape: [usize; 2],
    bits: String,
    sides: Vec<Component>,
    corners: Vec<Component>,
    seeds: String,
    seeded: String,
    filled: String,
    euler_number_8: i64,
    crack_length: usize,
}

#[derive(Deserialize)]
struct Deep {
    name: String,
    shape: [usize; 3],
    bits: String,
    sides: Vec<Component>,
    corners: Vec<Component>,
    seeds: String,
    seeded: String,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Component {
    size: u64,
    #[serde(rename = "box")]
    bounds: [usize; 4],
    slices: [usize; 2],
}

fn goldens() -> Goldens {
    serde_json::from_str(include_str!("goldens/masks/masks.json")).unwrap()
}

/// The masks of numpy.packbits in hexadecimal.
fn unpack(bits: &str, [depth, height, width]: [usize; 3]) -> Vec<Mask> {
    let bytes: Vec<u8> = (0..bits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&bits[i..i + 2], 16).unwrap())
        .collect();
    let pixels: Vec<bool> = (0..depth * height * width)
        .map(|i| bytes[i / 8] << (i % 8) & 0x80 != 0)
        .collect();
    pixels
        .chunks_exact(height * width)
        .map(|pixels| Mask::new(width, height, pixels.to_vec()).unwrap())
        .collect()
}

fn corners(bounds: BoundingBox) -> [usize; 4] {
    [bounds.x, bounds.y, bounds.width, bounds.height]
}

#[test]
fn components_of_slices_are_scipys() {
    for golden in goldens().flat {
        let [height, width] = golden.shape;
        let mask = &unpack(&golden.bits, [1, height, width])[0];
        for (connectivity, expected) in [
            (Connectivity::Sides, &golden.sides),
            (Connectivity::Corners, &golden.corners),
        ] {
            let found: Vec<_> = label_2d(mask, connectivity)
                .as_slice()
                .iter()
                .map(|component| Component {
                    size: component.area,
                    bounds: corners(component.bounds),
                    slices: [0, 1],
                })
                .collect();
            assert_eq!(&found, expected, "{} {connectivity:?}", golden.name);
        }
    }
}

#[test]
fn components_of_volumes_are_scipys() {
    for golden in goldens().deep {
        let masks = unpack(&golden.bits, golden.shape);
        for (connectivity, expected) in [
            (Connectivity::Sides, &golden.sides),
            (Connectivity::Corners, &golden.corners),
        ] {
            let found: Vec<_> = label_3d(&masks, connectivity)
                .unwrap()
                .as_slice()
                .iter()
                .map(|component| Component {
                    size: component.volume,
                    bounds: corners(component.bounds),
                    slices: [component.slices.start, component.slices.end],
                })
                .collect();
            assert_eq!(&found, expected, "{} {connectivity:?}", golden.name);
        }
    }
}

#[test]
fn filters_keep_what_scipy_counts() {
    for golden in goldens().flat {
        let [height, width] = golden.shape;
        let mask = &unpack(&golden.bits, [1, height, width])[0];
        let sizes = || golden.corners.iter().map(|component| component.size);
        for least in [0, 1, 5, 100] {
            let kept: u64 = sizes().filter(|&size| size >= least).sum();
            assert_eq!(remove_small(mask, least).area(), kept, "{}", golden.name);
        }
        let largest = keep_largest(mask);
        assert_eq!(
            largest.area(),
            sizes().max().unwrap_or(0),
            "{}",
            golden.name
        );
    }
    for golden in goldens().deep {
        let masks = unpack(&golden.bits, golden.shape);
        let sizes = || golden.corners.iter().map(|component| component.size);
        let area = |masks: Vec<Mask>| masks.iter().map(Mask::area).sum::<u64>();
        for least in [0, 1, 5, 100] {
            let kept: u64 = sizes().filter(|&size| size >= least).sum();
            assert_eq!(
                area(remove_small_3d(&masks, least).unwrap()),
                kept,
                "{}",
                golden.name
            );
        }
        let largest = keep_largest_3d(&masks).unwrap();
        assert_eq!(area(largest), sizes().max().unwrap_or(0), "{}", golden.name);
    }
}

#[test]
fn holes_are_scipys() {
    for golden in goldens().flat {
        let [height, width] = golden.shape;
        let mask = |bits| unpack(bits, [1, height, width]).remove(0);
        assert_eq!(
            fill_holes(&mask(&golden.bits)),
            mask(&golden.filled),
            "{}",
            golden.name
        );
    }
}

/// 0.9 at the seeds and 0.6 elsewhere.
fn probabilities(seeds: &[Mask]) -> Vec<ProbabilityMap> {
    let value = |&seed: &bool| if seed { 0.9 } else { 0.6 };
    seeds
        .iter()
        .map(|seeds| {
            let values = seeds.pixels().iter().map(value).collect();
            ProbabilityMap::new(seeds.width(), seeds.height(), values).unwrap()
        })
        .collect()
}

#[test]
fn components_with_a_seed_are_what_scipy_spreads_from_the_seeds() {
    for golden in goldens().flat {
        let [height, width] = golden.shape;
        let masks = |bits| unpack(bits, [1, height, width]);
        let (mask, seeds) = (
            &masks(&golden.bits)[0],
            probabilities(&masks(&golden.seeds)),
        );
        let spread = &masks(&golden.seeded)[0];
        assert_eq!(
            &keep_seeded(mask, &seeds[0], 0.9),
            spread,
            "{}",
            golden.name
        );
        assert_eq!(&keep_seeded(mask, &seeds[0], 0.6), mask, "{}", golden.name);
        assert!(keep_seeded(mask, &seeds[0], 0.91).is_empty());
    }
    for golden in goldens().deep {
        let masks = |bits| unpack(bits, golden.shape);
        let seeds = probabilities(&masks(&golden.seeds));
        let kept = keep_seeded_3d(&masks(&golden.bits), &seeds, 0.9).unwrap();
        assert_eq!(kept, masks(&golden.seeded), "{}", golden.name);
    }
    assert!(keep_seeded_3d(&[], &[], 0.5).unwrap().is_empty());
}

#[test]
fn the_first_of_equally_large_components_is_kept() {
    let pixels = [true, false, true, false, true].to_vec();
    let mask = Mask::new(5, 1, pixels).unwrap();
    assert_eq!(
        keep_largest(&mask).pixels(),
        [true, false, false, false, false]
    );
}

#[test]
fn a_stack_holds_slices_of_one_size() {
    assert!(label_3d(&[], Connectivity::Sides).unwrap().is_empty());
    assert!(keep_largest_3d(&[]).unwrap().is_empty());
    let stack = [Mask::empty(3, 2), Mask::empty(3, 2), Mask::empty(2, 3)];
    let refused = label_3d(&stack, Connectivity::Sides).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "slice 2 has 2x3 pixels, slice 0 has 3x2"
    );
}

#[test]
fn contours_agree_with_scikit_image() {
    for golden in goldens().flat {
        let [height, width] = golden.shape;
        let mask = &unpack(&golden.bits, [1, height, width])[0];
        let found = contours(mask);
        let holes = found.iter().filter(|contour| contour.is_hole()).count();
        let outer = found.len() - holes;
        assert_eq!(outer, golden.corners.len(), "{}", golden.name);
        assert_eq!(
            outer as i64 - holes as i64,
            golden.euler_number_8,
            "{}",
            golden.name
        );
        let length: usize = found
            .iter()
            .map(|contour| sides(contour.points()).count())
            .sum();
        assert_eq!(length, golden.crack_length, "{}", golden.name);
        for (contour, component) in found.iter().filter(|c| !c.is_hole()).zip(&golden.corners) {
            let (left, top) = contour
                .points()
                .iter()
                .fold((usize::MAX, usize::MAX), |(x, y), p| {
                    (x.min(p.x), y.min(p.y))
                });
            assert_eq!([left, top], component.bounds[..2], "{}", golden.name);
        }
    }
}

#[test]
fn a_ring_has_a_rim_and_a_hole() {
    let ring: Vec<bool> = (0..20).map(|i| i != 6 && i != 7).collect();
    let mask = Mask::new(5, 4, ring).unwrap();
    let rim = [(0, 0), (5, 0), (5, 4), (0, 4)];
    let hole = [(1, 2), (3, 2), (3, 1), (1, 1)];
    let found = contours(&mask);
    assert_eq!(found.len(), 2);
    for (contour, points, is_hole, area) in
        [(&found[0], rim, false, 20), (&found[1], hole, true, 2)]
    {
        let corners: Vec<_> = contour.points().iter().map(|p| (p.x, p.y)).collect();
        assert_eq!(corners, points);
        assert_eq!((contour.is_hole(), contour.area()), (is_hole, area));
    }
}

/// The sides of pixels along a contour: where each starts and ends.
fn sides(
    points: &[glioseg_shared::imaging::contour::Point],
) -> impl Iterator<Item = ((usize, usize), (usize, usize))> {
    let next = points.iter().cycle().skip(1);
    points.iter().zip(next).flat_map(|(a, b)| {
        let length = a.x.abs_diff(b.x) + a.y.abs_diff(b.y);
        let at = |step: usize| {
            let along = |from: usize, to: usize| match from.cmp(&to) {
                std::cmp::Ordering::Less => from + step,
                std::cmp::Ordering::Equal => from,
                std::cmp::Ordering::Greater => from - step,
            };
            (along(a.x, b.x), along(a.y, b.y))
        };
        (0..length).map(move |step| (at(step), at(step + 1)))
    })
}

fn any_mask(sides: std::ops::Range<usize>) -> impl Strategy<Value = Mask> {
    (sides.clone(), sides, 0.0..1.0_f64).prop_flat_map(|(width, height, density)| {
        prop::collection::vec(prop::bool::weighted(density), width * height)
            .prop_map(move |pixels| Mask::new(width, height, pixels).unwrap())
    })
}

/// Labels by flooding from every pixel not yet reached: slow, and plainly right.
fn flood(mask: &Mask, connectivity: Connectivity) -> Vec<usize> {
    let (width, height) = (mask.width(), mask.height());
    let mut labels = vec![0; width * height];
    let mut next = 0;
    for start in 0..labels.len() {
        if !mask.pixels()[start] || labels[start] != 0 {
            continue;
        }
        next += 1;
        labels[start] = next;
        let mut reached = vec![start];
        while let Some(at) = reached.pop() {
            let (x, y) = (at % width, at / width);
            for (to, label) in labels.iter_mut().enumerate() {
                let (dx, dy) = ((to % width).abs_diff(x), (to / width).abs_diff(y));
                let touches = match connectivity {
                    Connectivity::Sides => dx + dy == 1,
                    Connectivity::Corners => dx.max(dy) == 1,
                };
                if touches && mask.pixels()[to] && *label == 0 {
                    *label = next;
                    reached.push(to);
                }
            }
        }
    }
    labels
}

proptest! {
    #[test]
    fn labels_are_those_of_a_flood(mask in any_mask(1..20)) {
        for connectivity in [Connectivity::Sides, Connectivity::Corners] {
            let components = label_2d(&mask, connectivity);
            prop_assert_eq!(components.labels(), flood(&mask, connectivity));
        }
    }

    #[test]
    fn every_pixel_belongs_to_one_component(mask in any_mask(1..150)) {
        for connectivity in [Connectivity::Sides, Connectivity::Corners] {
            let components = label_2d(&mask, connectivity);
            let area: u64 = components.as_slice().iter().map(|component| component.area).sum();
            prop_assert_eq!(area, mask.area());
            prop_assert_eq!(&components.keep(|_, _| true), &mask);
            for (index, component) in components.as_slice().iter().enumerate().take(3) {
                let alone = components.keep(|i, _| i == index);
                prop_assert_eq!(alone.area(), component.area);
                prop_assert_eq!(alone.bounding_box(), Some(component.bounds));
                prop_assert_eq!(label_2d(&alone, connectivity).len(), 1);
            }
        }
    }

    #[test]
    fn a_stack_of_one_slice_has_the_slices_components(mask in any_mask(1..70)) {
        for connectivity in [Connectivity::Sides, Connectivity::Corners] {
            let stack = label_3d(std::slice::from_ref(&mask), connectivity).unwrap();
            prop_assert_eq!(stack.labels(), label_2d(&mask, connectivity).labels());
            prop_assert_eq!(stack.keep(|_, _| true), vec![mask.clone()]);
        }
    }

    #[test]
    fn contours_hold_the_pixels_of_the_mask(mask in any_mask(1..40)) {
        let found = contours(&mask);
        let (mut outer, mut holes) = (0, 0);
        // Crossings of upright sides, from the left: a pixel is inside after an odd number.
        let mut crossed = vec![false; (mask.width() + 1) * mask.height()];
        for contour in &found {
            *(if contour.is_hole() { &mut holes } else { &mut outer }) += contour.area();
            for ((x, from), (_, to)) in sides(contour.points()).filter(|(a, b)| a.1 != b.1) {
                let side = &mut crossed[from.min(to) * (mask.width() + 1) + x];
                prop_assert!(!*side, "no side is walked twice");
                *side = true;
            }
            for corner in contour.points().windows(3) {
                let straight = (corner[0].x == corner[2].x) || (corner[0].y == corner[2].y);
                prop_assert!(!straight, "only corners are points");
            }
        }
        prop_assert_eq!(outer - holes, mask.area());
        let mut filled = Vec::new();
        for row in crossed.chunks_exact(mask.width() + 1) {
            let mut inside = false;
            filled.extend(row[..mask.width()].iter().map(|&crossing| {
                inside ^= crossing;
                inside
            }));
        }
        prop_assert_eq!(filled, mask.pixels());
    }
}
