//! `vxtap top` shows a running sensor in a terminal, once a second: what comes, what is lost, the
//! outputs and the sessions.
//!
//! A thread asks the sensor (`feed.rs`), so that keys are heard while no answer comes. `model.rs`
//! makes rates of two answers, `draw.rs` draws them, and `once.rs` writes them as a table for
//! scripts.

mod draw;
mod feed;
mod keys;
mod model;
mod once;
mod units;

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};

use self::feed::Feed;
use self::keys::Asked;
use self::model::Model;
pub use self::model::Sort;
use crate::control::{Client, ClientError};

/// The time between two looks for keys.
const KEYS: Duration = Duration::from_millis(100);

/// What is shown, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The time between two questions.
    pub interval: Duration,
    /// The order of the sessions.
    pub sort: Sort,
}

/// The reasons for which there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The sensor does not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody could see it.
    #[error("there is no terminal to draw on; --once prints one table")]
    NoTerminal,
    /// The terminal or a thread failed.
    #[error("cannot draw on the terminal: {0}")]
    Terminal(#[from] io::Error),
}

/// Shows the sensor until somebody has seen enough, or `stop` is set. The terminal is as it was
/// before when this returns, and where it panics.
///
/// # Errors
/// The sensor does not answer the first question, or there is no terminal that can be drawn on.
pub fn show(client: &Client, options: &Options, stop: &AtomicBool) -> Result<(), TopError> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(TopError::NoTerminal);
    }
    // Whoever names a wrong socket reads so where he typed it.
    let mut model = Model::new(client.place().to_string(), options.sort);
    model.take(Ok(feed::ask(client)?));
    let feed = Feed::start(client.clone(), options.interval)?;
    let mut terminal = ratatui::try_init()?;
    let shown = follow(&mut terminal, &mut model, &feed, stop);
    ratatui::try_restore()?;
    Ok(shown?)
}

fn follow(
    terminal: &mut ratatui::DefaultTerminal,
    model: &mut Model,
    feed: &Feed,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut is_new = true;
    while !stop.load(Ordering::Relaxed) {
        if is_new {
            terminal.draw(|frame| draw::draw(frame, model))?;
        }
        is_new = event::poll(KEYS)?;
        if is_new
            && let Event::Key(key) = event::read()?
            && keys::heard(key, model) == Asked::End
        {
            break;
        }
        if let Some(sample) = feed.next() {
            model.take(sample);
            is_new = true;
        }
    }
    Ok(())
}

/// Returns a table of what the sensor does during one interval.
///
/// # Errors
/// The sensor does not answer.
pub fn once(client: &Client, options: &Options) -> Result<String, TopError> {
    let mut model = Model::new(client.place().to_string(), options.sort);
    model.take(Ok(feed::ask(client)?));
    std::thread::sleep(options.interval);
    model.take(Ok(feed::ask(client)?));
    Ok(once::table(&model))
}
