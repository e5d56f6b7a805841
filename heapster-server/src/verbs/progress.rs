//! [`Progress`]: a line on a terminal that says how far something has got.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use heapster_store::{Clock, SystemClock};

/// The line is drawn anew at most this often.
const REDRAW: Duration = Duration::from_millis(100);
const BAR_WIDTH: usize = 20;
/// Goes to the start of the line and clears it.
const CLEAR: &str = "\r\x1b[K";

/// How far something has got, in two numbers: steps that make up a known whole, and things that are
/// counted on the way. Drawn on stderr when that is a terminal; cheap when not.
#[derive(Debug)]
pub struct Progress {
    verb: &'static str,
    /// What the counted things are called.
    things: &'static str,
    steps: u64,
    /// `None` when the whole is not known.
    steps_max: Option<u64>,
    count: u64,
    /// Its monotonic time begins with the work.
    clock: SystemClock,
    drawn: Option<Duration>,
    is_shown: bool,
}

impl Progress {
    /// Shows nothing when `is_wanted` is false or stderr is no terminal.
    pub fn new(verb: &'static str, things: &'static str, is_wanted: bool) -> Self {
        let is_shown = is_wanted && stderr().is_terminal();
        Self {
            verb,
            things,
            steps: 0,
            steps_max: None,
            count: 0,
            clock: SystemClock::new(),
            drawn: None,
            is_shown,
        }
    }

    /// Says how many steps there are.
    pub fn set_whole(&mut self, steps_max: Option<u64>) {
        self.steps_max = steps_max;
    }

    /// Things counted so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Counts things.
    pub fn add(&mut self, count: u64) {
        self.count += count;
        self.redraw();
    }

    /// Says how many steps are done by now.
    pub fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
        self.redraw();
    }

    /// Takes over how far a copy or a check of a store is: its bytes are both steps and things.
    pub fn show(&mut self, at: heapster_store::Progress) {
        self.steps_max = Some(at.bytes_total);
        self.steps = at.bytes_done;
        self.count = at.bytes_done;
        self.redraw();
    }

    /// Prints a line on stderr above the progress.
    pub fn say(&mut self, line: &str) {
        self.clear();
        super::tell(line);
    }

    /// Removes the line from the terminal.
    pub fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let _ = write!(stderr(), "{CLEAR}");
        }
    }

    fn redraw(&mut self) {
        if !self.is_shown {
            return;
        }
        let now = self.elapsed();
        if now.saturating_sub(self.drawn.unwrap_or_default()) < REDRAW {
            return;
        }
        self.drawn = Some(now);
        let line = self.line(now);
        let _ = write!(stderr(), "{CLEAR}{line}");
    }

    fn line(&self, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64().max(1e-3);
        let mut line = self.verb.to_owned();
        if let Some(whole) = self.steps_max.filter(|whole| *whole > 0) {
            let done = (self.steps as f64 / whole as f64).min(1.0);
            let filled = (done * BAR_WIDTH as f64) as usize;
            let bar = "#".repeat(filled) + &"-".repeat(BAR_WIDTH - filled);
            let _ = write!(line, " [{bar}] {:3.0} %", done * 100.0);
            if done > 0.0 {
                let left = Duration::from_secs_f64((seconds / done - seconds).min(1e9));
                let _ = write!(line, "  {} left", short_time(left));
            }
        }
        let rate = short(self.count as f64 / seconds);
        let _ = write!(line, "  {} {}, {rate}/s", short(self.count as f64), self.things);
        line
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A number in at most five characters and a unit: 999, 12.3k, 4.56M.
pub fn short(number: f64) -> String {
    let (scaled, unit) = match number {
        number if number < 1e3 => return format!("{number:.0}"),
        number if number < 1e6 => (number / 1e3, "k"),
        number if number < 1e9 => (number / 1e6, "M"),
        number => (number / 1e9, "G"),
    };
    let decimals = match scaled {
        scaled if scaled < 9.995 => 2,
        scaled if scaled < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$}{unit}")
}

/// Hours, minutes and seconds: 0:07, 12:34, 1:02:03.
pub fn short_time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        hours => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is_how_long_it_takes_and_how_fast_it_goes() {
        let mut progress = Progress::new("export", "samples", false);
        progress.count = 1_234_567;
        let elapsed = Duration::from_secs(10);
        assert_eq!(progress.line(elapsed), "export  1.23M samples, 123k/s");
        progress.steps_max = Some(200);
        assert_eq!(
            progress.line(elapsed),
            "export [--------------------]   0 %  1.23M samples, 123k/s"
        );
        progress.steps = 50;
        assert_eq!(
            progress.line(elapsed),
            "export [#####---------------]  25 %  0:30 left  1.23M samples, 123k/s"
        );
        progress.steps = 201;
        assert!(progress.line(elapsed).contains("100 %  0:00 left"));
    }

    #[test]
    fn numbers_and_times_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (999.0, "999"),
            (1e3, "1.00k"),
            (12_345.0, "12.3k"),
            (43.2e6, "43.2M"),
            (1.5e9, "1.50G"),
        ] {
            assert_eq!(short(number), text);
        }
        assert_eq!(short_time(Duration::from_secs(3_723)), "1:02:03");
    }
}
