//! The stations of a model's way as aligned lines of text.

use std::fmt::Write as _;

/// A station.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What was done.
    pub what: String,
    /// Version of the model that it was done with.
    pub version: String,
    /// The model's mean volume Dice on the validation patients, where it was scored.
    pub volume_dice: Option<f64>,
    /// Version that the segment function answered with afterwards.
    pub serving: String,
}

/// A line for each step, under a heading.
#[must_use]
pub fn table(steps: &[Step]) -> String {
    let head = ["step", "model", "validation volume Dice", "serves"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(head)
        .chain(steps.iter().map(cells))
        .collect();
    let widths: [usize; 4] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    });
    let mut text = String::new();
    for [what, version, dice, serving] in &rows {
        // Names to the left, numbers to the right.
        let _ = writeln!(
            text,
            "  {what:<0$}  {version:<1$}  {dice:>2$}  {serving}",
            widths[0], widths[1], widths[2]
        );
    }
    text
}

fn cells(step: &Step) -> [String; 4] {
    let dice = step.volume_dice.map(|dice| format!("{dice:.4}"));
    [
        step.what.clone(),
        step.version.clone(),
        dice.unwrap_or_else(|| "–".to_owned()),
        step.serving.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let step = |what: &str, dice| Step {
            what: what.to_owned(),
            version: "fast-1".to_owned(),
            volume_dice: dice,
            serving: "fast-2".to_owned(),
        };
        let text = table(&[step("roll-back", None), step("training", Some(0.5))]);
        assert_eq!(
            text,
            "  step       model   validation volume Dice  serves\n\
             \x20 roll-back  fast-1                       –  fast-2\n\
             \x20 training   fast-1                  0.5000  fast-2\n"
        );
    }
}
