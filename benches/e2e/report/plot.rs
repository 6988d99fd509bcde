//! The plot: per case, what each peer costs as a ratio to the yardstick, with the spread over the rounds.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::super::quantity::Role;
use super::super::results::{Results, Spread};

const LINE: i32 = 22;
const LEFT: i32 = 300;
const WIDTH: i32 = 1000;
const RIGHT: i32 = 60;
const TOP: i32 = 90;
/// Ratios beyond this stand at the edge, with their number.
const MOST: f64 = 3.0;
const FONT: &str = "sans-serif";

/// One case.
struct Line {
    case: String,
    points: Vec<(String, Spread)>,
}

/// As SVG; `None` when nothing was compared.
pub fn svg(results: &Results) -> Option<String> {
    let lines = lines(results);
    if lines.is_empty() {
        return None;
    }
    let mut text = String::new();
    {
        let height = TOP + LINE * i32::try_from(lines.len()).ok()? + 40;
        let size = (u32::try_from(WIDTH).ok()?, u32::try_from(height).ok()?);
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&area, &lines, height - 40).unwrap_or_else(|error| panic!("plot: {error}"));
        area.present().unwrap_or_else(|error| panic!("plot: {error}"));
    }
    Some(text)
}

fn lines(results: &Results) -> Vec<Line> {
    let mut lines = Vec::new();
    for suite in &results.suites {
        for quantity in suite.quantities.iter().filter(|quantity| quantity.role == Role::Plotted) {
            for case in suite.cases() {
                let ratio = |peer: &str| suite.summary(case, peer, quantity)?.ratio;
                let compared = suite.peers.iter().filter(|(name, _)| name != suite.yardstick);
                let points: Vec<_> = compared.filter_map(|(peer, _)| Some((peer.clone(), ratio(peer)?))).collect();
                if !points.is_empty() {
                    lines.push(Line { case: format!("{}: {case}", super::name(suite)), points });
                }
            }
        }
    }
    lines
}

fn x(ratio: f64) -> i32 {
    let width = f64::from(WIDTH - LEFT - RIGHT);
    LEFT + (ratio.clamp(0.0, MOST) / MOST * width) as i32
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>>;

fn draw(area: &Area<'_>, lines: &[Line], bottom: i32) -> Drawn {
    let font = |size: i32, to: HPos| TextStyle::from((FONT, size)).pos(Pos::new(to, VPos::Center));
    area.fill(&WHITE)?;
    let title = "Cost per unit of work (CPU; idle: memory), as a ratio to PgBouncer's: less is better";
    area.draw(&Text::new(title, (LEFT, 18), font(15, HPos::Left)))?;
    for step in 0..=12 {
        let ratio = f64::from(step) * MOST / 12.0;
        let color = if step == 4 { BLACK.mix(0.9) } else { BLACK.mix(0.12) };
        area.draw(&PathElement::new(vec![(x(ratio), TOP - 12), (x(ratio), bottom)], color))?;
        if step % 2 == 0 {
            area.draw(&Text::new(format!("{ratio:.1}"), (x(ratio), bottom + 14), font(12, HPos::Center)))?;
        }
    }
    let mut peers: Vec<&str> = Vec::new();
    for (peer, _) in lines.iter().flat_map(|line| &line.points) {
        if !peers.contains(&peer.as_str()) {
            peers.push(peer);
        }
    }
    let color = |peer: &str| Palette99::pick(peers.iter().position(|known| *known == peer).unwrap_or(0)).to_rgba();
    let mut at = LEFT;
    for peer in &peers {
        area.draw(&Circle::new((at, 46), 4, color(peer).filled()))?;
        area.draw(&Text::new((*peer).to_owned(), (at + 9, 46), font(12, HPos::Left)))?;
        at += 30 + 8 * i32::try_from(peer.len()).unwrap_or(20);
    }
    for (number, line) in (0..).zip(lines) {
        let middle = TOP + number * LINE;
        area.draw(&Text::new(line.case.clone(), (LEFT - 12, middle), font(12, HPos::Right)))?;
        for (nth, (peer, ratio)) in (0..).zip(&line.points) {
            // A little apart, so that none hides another.
            let y = middle + (nth * 2 + 1 - i32::try_from(line.points.len()).unwrap_or(1)) * 2;
            let style = color(peer).filled();
            area.draw(&PathElement::new(vec![(x(ratio.least), y), (x(ratio.most), y)], style.stroke_width(2)))?;
            area.draw(&Circle::new((x(ratio.median), y), 3, style))?;
            if ratio.median > MOST {
                let text = format!("{:.1}", ratio.median);
                area.draw(&Text::new(text, (x(MOST) + 8, y), font(11, HPos::Left)))?;
            }
        }
    }
    Ok(())
}
