//! The page for people: one file, without scripts, that asks for nothing from anywhere.

use std::fmt::Write as _;

use glioseg_shared::imaging::overlay::{BOTH, PREDICTION, TRUTH};
use glioseg_shared::page::{self, Page, Text, swatch};
use glioseg_shared::scoring::SliceScore;

use super::figures::{Views, heat_scale, histogram, interval_bar};
use super::headline::{dice, headlines};
use super::patient::PatientFigures;
use super::{Report, ReportError, Subject, certainty};
use crate::evaluate::{Evaluation, Exhibit};

/// How many false positives are listed openly; a longer list is folded.
const OPEN_ROWS: usize = 20;

/// The whole page.
pub(super) fn page(report: &Report) -> Result<String, ReportError> {
    let evaluation = &report.evaluation;
    let sections = [
        cautions(report),
        headline_table(evaluation),
        histograms(evaluation),
        certainty::section(&evaluation.certainty),
        patient_table(evaluation),
        exhibits(evaluation)?,
        false_positives(evaluation)?,
        provenance(report),
    ];
    let title = format!("Evaluation of {}", report.model.version);
    let summary = &evaluation.summary;
    let lead = format!(
        "{}: {} patients, {} slices",
        report.subject, summary.patients, summary.slices
    );
    let page = Page {
        title: &title,
        heading: &title,
        lead: &lead,
        style: include_str!("report.css"),
        main: &sections.concat(),
    };
    Ok(page.to_string())
}

fn cautions(report: &Report) -> String {
    let cautions = report.cautions();
    if cautions.is_empty() {
        return String::new();
    }
    let items: String = cautions
        .iter()
        .map(|caution| format!("<li>{}</li>", Text(caution)))
        .collect();
    format!("<section class=\"cautions\" aria-label=\"Cautions\">\n<ul>{items}</ul>\n</section>\n")
}

fn headline_table(evaluation: &Evaluation) -> String {
    let rows: String = headlines(&evaluation.summary)
        .iter()
        .map(|figure| {
            format!(
                "<tr><th scope=\"row\" class=\"title\">{name}<span class=\"meaning\">{meaning}</span></th>\
                 <td class=\"number figure\">{value}</td><td class=\"number\">{interval}</td>\
                 <td>{bar}</td><td>{n}</td></tr>\n",
                name = figure.name,
                meaning = figure.meaning,
                value = figure.value(),
                interval = figure.interval(),
                bar = figure
                    .estimate
                    .as_ref()
                    .map(interval_bar)
                    .unwrap_or_default(),
                n = figure.n(),
            )
        })
        .collect();
    format!(
        "<section>\n<h2>Figures</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Figure</th>\
         <th scope=\"col\" class=\"number\">Value</th><th scope=\"col\" class=\"number\">95 % interval</th>\
         <th scope=\"col\">0 to 1</th><th scope=\"col\">n</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n\
         <p class=\"meaning\">Intervals by bootstrap over patients, percentile method. Protocol {protocol}.</p>\n\
         </section>\n",
        protocol = Text(&evaluation.summary.protocol),
    )
}

fn histograms(evaluation: &Evaluation) -> String {
    let slices: Vec<f64> = evaluation
        .slices()
        .filter(|(_, score)| score.counts.true_area() > 0)
        .map(|(_, score)| score.counts.dice())
        .collect();
    let volumes: Vec<f64> = evaluation.volume_dice().map(|(_, dice)| dice).collect();
    format!(
        "<section>\n<h2>Distribution of Dice</h2>\n<div class=\"pair\">\n\
         <div><h3>Slices with tumour</h3>\n{}\n</div>\n<div><h3>Patients, by volume</h3>\n{}\n</div>\n\
         </div>\n</section>\n",
        histogram(&slices, "slices with tumour"),
        histogram(&volumes, "patients"),
    )
}

fn patient_table(evaluation: &Evaluation) -> String {
    let undefined = |value: Option<f64>| value.map_or("–".to_owned(), dice);
    let rows: String = evaluation
        .patients
        .iter()
        .map(PatientFigures::of)
        .map(|figures| {
            format!(
                "<tr><th scope=\"row\" class=\"name\">{patient}</th>\
                 <td class=\"number\"><span class=\"level\" aria-hidden=\"true\">\
                 <span style=\"width:{percent:.0}%\"></span></span>{volume}</td>\
                 <td class=\"number\">{by_slice}</td><td class=\"number\">{precision}</td>\
                 <td class=\"number\">{recall}</td><td class=\"number\">{tumour} of {slices}</td>\
                 <td class=\"number\">{wrong} of {empty}</td><td class=\"number\">{true_area}</td>\
                 <td class=\"number\">{predicted_area}</td></tr>\n",
                patient = Text(figures.patient),
                percent = 100.0 * figures.volume_dice,
                volume = dice(figures.volume_dice),
                by_slice = undefined(figures.tumour_slice_dice),
                precision = undefined(figures.precision),
                recall = undefined(figures.recall),
                tumour = figures.tumour_slices,
                slices = figures.slices,
                wrong = figures.false_positive_slices,
                empty = figures.empty_slices(),
                true_area = figures.true_area,
                predicted_area = figures.predicted_area,
            )
        })
        .collect();
    let head: String = [
        "Volume Dice",
        "Tumour-slice Dice",
        "Precision",
        "Recall",
        "Slices with tumour",
        "False positives on empty slices",
        "True area (px)",
        "Predicted area (px)",
    ]
    .iter()
    .map(|title| format!("<th scope=\"col\" class=\"number\">{title}</th>"))
    .collect();
    format!(
        "<section>\n<h2>By patient</h2>\n<div class=\"scroll\"><table>\n<thead><tr>\
         <th scope=\"col\">Patient</th>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n\
         <p class=\"meaning\">Precision, recall and areas over all slices of the patient together.</p>\n</section>\n"
    )
}

fn exhibits(evaluation: &Evaluation) -> Result<String, ReportError> {
    let gallery = &evaluation.gallery;
    let mut html = format!("<section>\n<h2>Best and worst slices</h2>\n{}", legend());
    let groups: [(&str, &str, Vec<&Exhibit>); 3] = [
        ("Best", "No tumour was found.", gallery.best().collect()),
        (
            "Worst",
            "No slice has a wrong pixel.",
            gallery.worst().collect(),
        ),
        (
            "Worst with tumour",
            "No slice with tumour has a wrong pixel.",
            gallery.worst_with_tumour().collect(),
        ),
    ];
    for (title, none, exhibits) in groups {
        let _ = writeln!(html, "<h3>{title}</h3>");
        if exhibits.is_empty() {
            let _ = writeln!(html, "<p>{none}</p>");
        }
        for exhibit in exhibits {
            html.push_str(&figure(exhibit)?);
        }
    }
    html.push_str("</section>\n");
    Ok(html)
}

fn false_positives(evaluation: &Evaluation) -> Result<String, ReportError> {
    let mut found: Vec<(&str, &SliceScore)> = evaluation
        .slices()
        .filter(|(_, score)| score.counts.true_area() == 0 && score.counts.predicted_area() > 0)
        .collect();
    found.sort_by_key(|(_, score)| std::cmp::Reverse(score.counts.predicted_area()));
    let (wrong, empty) = (found.len(), evaluation.summary.empty_slices);
    let mut html = format!(
        "<section>\n<h2>False positives</h2>\n\
         <p>On {wrong} of {empty} slices without tumour some was predicted.</p>\n"
    );
    if wrong > 0 {
        let rows: String = found
            .iter()
            .map(|(patient, score)| {
                format!(
                    "<tr><th scope=\"row\" class=\"name\">{}</th><td class=\"name\">{}</td>\
                     <td class=\"number\">{}</td></tr>\n",
                    Text(patient),
                    Text(&score.slice),
                    score.counts.predicted_area()
                )
            })
            .collect();
        let open = if wrong <= OPEN_ROWS { " open" } else { "" };
        let _ = write!(
            html,
            "<details{open}><summary>All {wrong}, the largest first</summary>\n<div class=\"scroll\"><table>\n\
             <thead><tr><th scope=\"col\">Patient</th><th scope=\"col\">Slice</th>\
             <th scope=\"col\" class=\"number\">Predicted area (px)</th></tr></thead>\n\
             <tbody>\n{rows}</tbody>\n</table></div></details>\n<h3>The largest</h3>\n{}",
            legend()
        );
        for exhibit in evaluation.gallery.false_positives() {
            html.push_str(&figure(exhibit)?);
        }
    }
    html.push_str("</section>\n");
    Ok(html)
}

fn legend() -> String {
    let legend = page::legend(&[
        swatch(TRUTH, "true outline"),
        swatch(PREDICTION, "predicted outline"),
        swatch(BOTH, "both"),
        format!(
            "<li>probability 0 <img src=\"{heat}\" alt=\"from black over red to pale yellow\"> 1</li>",
            heat = heat_scale()
        ),
    ]);
    format!(
        "{legend}<p class=\"meaning\">From left to right: FLAIR, the outlines, the predicted probability of tumour.</p>\n"
    )
}

fn figure(exhibit: &Exhibit) -> Result<String, ReportError> {
    let views = Views::of(exhibit)?;
    let score = &exhibit.score;
    let name = Text(&score.slice);
    let (true_area, predicted_area) = (score.counts.true_area(), score.counts.predicted_area());
    let distance = score
        .surface
        .map_or("undefined".to_owned(), |s| format!("{:.1} px", s.hd95));
    Ok(format!(
        "<figure>\n<figcaption><strong>{name}</strong> <span>of {patient}: Dice {dice}, true area {true_area} px, \
         predicted area {predicted_area} px, HD95 {distance}</span></figcaption>\n<div class=\"views\">\n\
         <img src=\"{flair}\" alt=\"FLAIR image of {name}\">\n\
         <img src=\"{outlines}\" alt=\"{name} with the true and the predicted outline\">\n\
         <img src=\"{heatmap}\" alt=\"{name} with the predicted probability of tumour\">\n</div>\n</figure>\n",
        patient = Text(&exhibit.patient),
        dice = dice(score.counts.dice()),
        flair = views.flair,
        outlines = views.outlines,
        heatmap = views.heatmap,
    ))
}

fn provenance(report: &Report) -> String {
    let model = &report.model;
    let source = &model.provenance;
    let code = |text: &str| format!("<code>{}</code>", Text(text));
    let mut entries = vec![
        ("Model", Text(&model.version).to_string()),
        ("SHA-256 of the file", code(&model.sha256)),
        ("Network", Text(&model.network).to_string()),
        ("Marks", Text(&model.label).to_string()),
        ("Threshold", model.threshold.to_string()),
        ("Licence", Text(&model.licence).to_string()),
        ("Trained on", Text(&source.data).to_string()),
        ("SHA-256 of these data", code(&source.data_digest)),
        ("Trained by split", Text(&source.split).to_string()),
        ("SHA-256 of this split", code(&source.split_digest)),
        ("Seed", source.seed.to_string()),
        ("Commit", code(&source.commit)),
        (
            "Evaluated on",
            Text(&report.subject.to_string()).to_string(),
        ),
    ];
    if let Subject::Data {
        split: Some(split), ..
    } = &report.subject
    {
        entries.push(("SHA-256 of its split", code(&split.digest)));
    }
    let entries: String = entries
        .iter()
        .map(|(term, value)| format!("<dt>{term}</dt><dd>{value}</dd>\n"))
        .collect();
    format!("<section>\n<h2>Model and data</h2>\n<dl>\n{entries}</dl>\n</section>\n")
}
