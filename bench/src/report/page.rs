//! The report as one HTML page that needs nothing else: no script, no font, no network. It works from a file.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::figures::{self, Figure};
use super::plot::{self, PlotError};
use super::section::{self, Section};
use super::table::is_words;
use super::units::{self, printable};
use super::{by_workload, names};
use crate::result::RunResult;

const STYLE: &str = include_str!("page.css");

/// The page of one run, or of many: then runs of the same workload stand beside each other.
///
/// # Errors
///
/// A plot could not be drawn.
pub fn page(results: &[RunResult]) -> Result<String, PlotError> {
    let (title, body) = match results {
        [result] => (
            format!("{}: {}", result.workload, result.server),
            run_page(result)?,
        ),
        many => ("Comparison".to_owned(), comparison_page(many)?),
    };
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (printable(&title)) " · shardcast-bench" }
                style {
                    (PreEscaped(STYLE))
                    "@media screen and (prefers-color-scheme: dark) {\n"
                    // Selectors hold quotes; nothing of a result is in them.
                    (PreEscaped(plot::dark_rules()))
                    "}"
                }
            }
            body { main { (body) } }
        }
    };
    Ok(document.into_string())
}

fn run_page(result: &RunResult) -> Result<Markup, PlotError> {
    let figures = figures::figures(&[(result, result.server.clone())])?;
    Ok(html! {
        header {
            p.eyebrow { "shardcast-bench " (printable(&result.workload)) }
            h1 { (printable(&result.server)) }
            p.about {
                span { (units::count(result.connections.open)) " connections" } " · "
                span { (units::seconds(result.measured_s)) " measured" } " · "
                span { (units::moment(result.started_unix_ms)) } " "
                (badge(result))
            }
        }
        (alerts(result))
        (highlights(result))
        (figure_grid(&figures))
        (tables(&section::measurements(result)))
        (notes(&result.notes))
        section.facts aria-labelledby="circumstances" {
            h2 id="circumstances" { "How it was measured" }
            (command(result))
            (tables(&section::circumstances(result)))
        }
    })
}

fn comparison_page(results: &[RunResult]) -> Result<Markup, PlotError> {
    let began = results.iter().map(|result| result.started_unix_ms).min();
    let machine = results.first().map(|result| &result.machine);
    let mut markup = html! {
        header {
            p.eyebrow { "shardcast-bench" }
            h1 { "Comparison" }
            p.about {
                (results.len()) " runs"
                @if let Some(began) = began { " · begun " (units::moment(began)) }
            }
        }
    };
    for (workload, group) in &by_workload(results) {
        let names = names(group);
        let runs: Vec<_> = group.iter().copied().zip(names.clone()).collect();
        let figures = figures::figures(&runs)?;
        markup.0.push_str(
            &html! {
                section {
                    h2 { (printable(workload)) }
                    (table(&section::comparison(workload, group, &names), false))
                    (figure_grid(&figures))
                    @for (result, name) in &runs {
                        (run_details(result, name, machine != Some(&result.machine)))
                    }
                }
            }
            .into_string(),
        );
    }
    if let Some(result) = results.first() {
        let shared: Vec<Section> = section::circumstances(result)
            .into_iter()
            .filter(|section| section.title == section::MACHINE)
            .collect();
        markup
            .0
            .push_str(&html! { div.facts { (tables(&shared)) } }.into_string());
    }
    Ok(markup)
}

/// All tables of one run among many. The machine is left out where it is the one that stands at the page's end.
fn run_details(result: &RunResult, name: &str, own_machine: bool) -> Markup {
    let circumstances: Vec<Section> = section::circumstances(result)
        .into_iter()
        .filter(|section| own_machine || section.title != section::MACHINE)
        .collect();
    html! {
        details open[!result.failures.is_empty()] {
            summary { (printable(name)) " " (badge(result)) }
            p.about { (section::headline(result)) }
            (alerts(result))
            (tables(&section::measurements(result)))
            (notes(&result.notes))
            (command(result))
            div.facts { (tables(&circumstances)) }
        }
    }
}

fn badge(result: &RunResult) -> Markup {
    let verdict = section::verdict(result);
    html! { span class={ "badge " (verdict) } { (verdict) } }
}

fn alerts(result: &RunResult) -> Markup {
    html! {
        @if !result.failures.is_empty() {
            div.alert.failed role="alert" {
                strong { "The run failed." }
                ul { @for failure in &result.failures { li { (printable(failure)) } } }
            }
        }
        @if let Some(limit) = &result.generator.limit {
            div.alert.harness-limited role="alert" {
                strong { (section::LIMIT) } " " (printable(limit))
            }
        }
    }
}

fn highlights(result: &RunResult) -> Markup {
    html! {
        dl.highlights {
            @for (name, value) in section::highlights(result) {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

fn figure_grid(figures: &[Figure]) -> Markup {
    html! {
        @if !figures.is_empty() {
            div.figures { @for figure in figures { (figure_card(figure)) } }
        }
    }
}

fn figure_card(figure: &Figure) -> Markup {
    let (width, height) = figure.drawing.size;
    let label = format!("{}. {}", figure.title, figure.caption);
    html! {
        figure.card {
            figcaption {
                h3 { (figure.title) }
                p { (figure.caption) }
            }
            @if !figure.legend.is_empty() {
                ul.legend {
                    @for (name, tone) in &figure.legend {
                        li {
                            svg viewBox="0 0 14 4" aria-hidden="true" {
                                rect width="14" height="4" rx="2" fill=(plot::hex(tone.light)) {}
                            }
                            (printable(name))
                        }
                    }
                }
            }
            svg.plot viewBox={ "0 0 " (width) " " (height) } role="img" aria-label=(label) {
                // plotters escapes the texts that it draws.
                (PreEscaped(&figure.drawing.elements))
            }
        }
    }
}

/// Tables with a head one below the other, then those of names and values side by side.
fn tables(sections: &[Section]) -> Markup {
    let (wide, pairs): (Vec<&Section>, Vec<&Section>) = sections
        .iter()
        .partition(|section| !section.columns.is_empty());
    html! {
        @for section in wide { (table(section, true)) }
        @if !pairs.is_empty() {
            div.pairs { @for section in pairs { (table(section, true)) } }
        }
    }
}

fn table(section: &Section, titled: bool) -> Markup {
    let cell = |cell: &Option<String>| match cell {
        Some(text) => html! { (text) },
        None => html! { span.absent title="not measured" { (units::ABSENT) } },
    };
    let class = |place: usize| {
        let words = section.columns.get(place).is_none_or(|name| is_words(name));
        (!words).then_some("number")
    };
    html! {
        div.card {
            @if titled { h3 { (section.title) } }
            @if let Some(warning) = &section.warning { p.warning { (warning) } }
            div.scroll role="region" tabindex="0" aria-label=(printable(&section.title)) {
                table.pair[section.columns.is_empty()] {
                    @if !section.columns.is_empty() {
                        thead { tr {
                            @for (place, name) in section.columns.iter().enumerate() {
                                th scope="col" class=[class(place)] { (name) }
                            }
                        } }
                    }
                    tbody {
                        @for row in &section.rows {
                            tr { @for (place, text) in row.iter().enumerate() {
                                @if place == 0 {
                                    th scope="row" class=[class(place)] { (cell(text)) }
                                } @else {
                                    td class=[class(place)] { (cell(text)) }
                                }
                            } }
                        }
                    }
                }
            }
            @for remark in &section.remarks { p.remark { (remark) } }
        }
    }
}

fn notes(notes: &[String]) -> Markup {
    html! {
        @if !notes.is_empty() {
            div.card.notes {
                h3 { "Notes" }
                ul { @for note in notes { li { (printable(note)) } } }
            }
        }
    }
}

fn command(result: &RunResult) -> Markup {
    html! {
        div.card {
            h3 { "Command" }
            pre tabindex="0" { code { (printable(&result.command)) } }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    /// What a page kept in the repository may weigh.
    const PAGE_SIZE_MAX: usize = 300_000;

    fn compared() -> Vec<RunResult> {
        let servers = [
            "shardcast",
            "axum",
            "ws (npm)",
            "gorilla",
            "websockets (PyPI)",
            "cowboy",
        ];
        let mut results: Vec<RunResult> = servers.into_iter().map(fixtures::rooms).collect();
        results.extend(servers.into_iter().map(fixtures::capacity));
        results.extend([
            fixtures::failed(),
            fixtures::density(),
            fixtures::density_without_pid(),
        ]);
        results
    }

    /// Writes a page to look at. Not a test of its own: `cargo test -p shardcast-bench -- --ignored write_pages`.
    #[test]
    #[ignore = "writes pages to look at into the directory that SHARDCAST_PAGES names"]
    fn write_pages() {
        let directory = std::env::var_os("SHARDCAST_PAGES").expect("SHARDCAST_PAGES is set");
        let write = |name: &str, results: &[RunResult]| {
            let path = std::path::Path::new(&directory).join(name);
            std::fs::write(path, page(results).unwrap()).unwrap();
        };
        write("rooms.html", &[fixtures::rooms("shardcast")]);
        write("failed.html", &[fixtures::failed()]);
        write("density.html", &[fixtures::density()]);
        write("capacity.html", &[fixtures::capacity("shardcast")]);
        write("storm.html", &[fixtures::storm()]);
        write("comparison.html", &compared());
        let paper = crate::report::table::Paper {
            width: Some(80),
            colour: true,
        };
        for result in [
            fixtures::density(),
            fixtures::capacity("x"),
            fixtures::failed(),
        ] {
            println!("{}", crate::report::table::table(&result, paper));
        }
        println!("{}", crate::report::table::comparison(&compared(), paper));
    }

    #[test]
    fn it_needs_nothing_from_elsewhere() {
        for page in [
            page(&compared()).unwrap(),
            page(&[fixtures::storm()]).unwrap(),
        ] {
            for reference in [
                "http:", "https:", "//", "src=", "href=", "url(", "@import", "<script", "<link",
            ] {
                assert!(!page.contains(reference), "{reference}");
            }
        }
    }

    #[test]
    fn it_is_small() {
        assert!(page(&compared()).unwrap().len() < PAGE_SIZE_MAX);
        let mut long = fixtures::rooms("shardcast");
        let seconds = long.seconds.clone();
        long.seconds = seconds.iter().cycle().take(86_400).cloned().collect();
        assert!(page(&[long]).unwrap().len() < PAGE_SIZE_MAX);
    }

    #[test]
    fn what_a_result_says_is_escaped() {
        for page in [
            page(&[fixtures::failed()]).unwrap(),
            page(&compared()).unwrap(),
        ] {
            assert!(!page.contains("<script>"));
            assert!(!page.contains("<b>no"));
            assert!(!page.contains('\u{1b}'));
            assert!(page.contains("&lt;script&gt;"));
        }
    }

    #[test]
    fn every_kind_of_run_has_a_page_with_all_that_its_table_has() {
        for result in fixtures::all() {
            let page = page(std::slice::from_ref(&result)).unwrap();
            for section in section::measurements(&result) {
                assert!(page.contains(&format!("<h3>{}</h3>", section.title)));
            }
            assert!(page.contains("How it was measured"));
            for tag in ["div", "table", "svg", "figure", "section", "details"] {
                let opened = page.matches(&format!("<{tag}>")).count()
                    + page.matches(&format!("<{tag} ")).count();
                assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
            }
        }
    }

    #[test]
    fn a_failure_and_a_limit_stand_before_the_numbers() {
        let page = page(&[fixtures::failed()]).unwrap();
        let failure = page.find("12 deliveries never arrived.").unwrap();
        let limit = page.find(section::LIMIT).unwrap();
        let numbers = page.find("<dl").unwrap();
        assert!(failure < numbers && limit < numbers);
    }

    #[test]
    fn what_was_not_measured_is_a_dash_or_left_out() {
        let page = page(&[fixtures::density_without_pid()]).unwrap();
        assert!(page.contains("not measured"));
        assert!(!page.contains("server per conn."));
        assert!(!page.contains("<h3>Server</h3>"));
    }
}
