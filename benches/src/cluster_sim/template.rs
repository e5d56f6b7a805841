//! JSON answers as templates: the text between the numbers is made once, the numbers each time.
//!
//! One description of an answer (a function that is generic over [`Shape`]) serves both
//! [`TemplateBuilder`], which keeps the text, and [`Renderer`], which fills in the numbers. So text
//! and numbers cannot get out of step.

use jiff::SignedDuration;
use jiff::civil::DateTime;

/// What an answer is made of, in order.
pub(crate) trait Shape {
    /// Opens an object; `key` is empty in an array.
    fn object(&mut self, key: &str);
    /// Opens an array.
    fn array(&mut self, key: &str);
    /// Closes what was opened last.
    fn close(&mut self);
    /// A text that never changes. It must need no JSON escapes.
    fn text(&mut self, key: &str, value: &str);
    /// A number that changes.
    fn number(&mut self, key: &str, value: u64);
    /// A time in seconds since the epoch that changes.
    fn time(&mut self, key: &str, seconds: i64);
}

/// Text with gaps for numbers and times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Template {
    text: Vec<u8>,
    /// Where in `text` each gap is.
    gaps: Vec<usize>,
}

/// Records the text of an answer, indented by one space as kubelets do.
#[derive(Debug, Default)]
pub(crate) struct TemplateBuilder {
    template: Template,
    closers: Vec<u8>,
    is_first: bool,
    base_depth: usize,
}

impl TemplateBuilder {
    /// A builder whose lines are indented by `base_depth` to begin with.
    pub(crate) fn new(base_depth: usize) -> Self {
        Self { base_depth, is_first: true, ..Self::default() }
    }

    /// The template of all that was recorded.
    pub(crate) fn finish(self) -> Template {
        self.template
    }

    fn begin(&mut self, key: &str) {
        if !self.is_first {
            self.template.text.push(b',');
        }
        self.is_first = false;
        self.new_line();
        if !key.is_empty() {
            self.template.text.push(b'"');
            self.template.text.extend_from_slice(key.as_bytes());
            self.template.text.extend_from_slice(b"\": ");
        }
    }

    fn new_line(&mut self) {
        let depth = self.base_depth + self.closers.len();
        if depth > 0 {
            self.template.text.push(b'\n');
            self.template.text.extend(std::iter::repeat_n(b' ', depth));
        }
    }

    fn open(&mut self, key: &str, brackets: [u8; 2]) {
        self.begin(key);
        self.template.text.push(brackets[0]);
        self.closers.push(brackets[1]);
        self.is_first = true;
    }
}

impl Shape for TemplateBuilder {
    fn object(&mut self, key: &str) {
        self.open(key, *b"{}");
    }

    fn array(&mut self, key: &str) {
        self.open(key, *b"[]");
    }

    fn close(&mut self) {
        if let Some(closer) = self.closers.pop() {
            self.new_line();
            self.template.text.push(closer);
            self.is_first = false;
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        self.begin(key);
        self.template.text.push(b'"');
        self.template.text.extend_from_slice(value.as_bytes());
        self.template.text.push(b'"');
    }

    fn number(&mut self, key: &str, _value: u64) {
        self.begin(key);
        self.template.gaps.push(self.template.text.len());
    }

    fn time(&mut self, key: &str, _seconds: i64) {
        self.begin(key);
        self.template.text.push(b'"');
        self.template.gaps.push(self.template.text.len());
        self.template.text.push(b'"');
    }
}

/// Writes a template with its numbers.
pub(crate) struct Renderer<'a> {
    out: &'a mut Vec<u8>,
    times: &'a mut TimeTexts,
    template: &'a Template,
    next_gap: usize,
    written: usize,
}

impl<'a> Renderer<'a> {
    /// A renderer that appends to `out`.
    pub(crate) fn new(
        out: &'a mut Vec<u8>,
        times: &'a mut TimeTexts,
        template: &'a Template,
    ) -> Self {
        Self { out, times, template, next_gap: 0, written: 0 }
    }

    /// Writes the text after the last number.
    ///
    /// # Panics
    /// When not every gap was filled: the description changed since the template was made.
    pub(crate) fn finish(self) {
        assert_eq!(self.next_gap, self.template.gaps.len(), "bug: a gap of the template is empty");
        self.out.extend_from_slice(&self.template.text[self.written..]);
    }

    fn text_before_gap(&mut self) {
        let end = self.template.gaps[self.next_gap];
        self.out.extend_from_slice(&self.template.text[self.written..end]);
        self.written = end;
        self.next_gap += 1;
    }
}

impl Shape for Renderer<'_> {
    fn object(&mut self, _key: &str) {}

    fn array(&mut self, _key: &str) {}

    fn close(&mut self) {}

    fn text(&mut self, _key: &str, _value: &str) {}

    fn number(&mut self, _key: &str, value: u64) {
        self.text_before_gap();
        push_number(self.out, value);
    }

    fn time(&mut self, _key: &str, seconds: i64) {
        self.text_before_gap();
        self.out.extend_from_slice(self.times.of(seconds));
    }
}

fn push_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Texts of recent times; an answer has a hundred times of some ten distinct seconds.
#[derive(Debug)]
pub(crate) struct TimeTexts {
    slots: Vec<(i64, String)>,
}

impl Default for TimeTexts {
    fn default() -> Self {
        Self { slots: vec![(i64::MIN, String::new()); 64] }
    }
}

impl TimeTexts {
    fn of(&mut self, seconds: i64) -> &[u8] {
        let slot = &mut self.slots[seconds.rem_euclid(64) as usize];
        if slot.0 != seconds {
            *slot = (seconds, rfc3339(seconds));
        }
        slot.1.as_bytes()
    }
}

/// `2026-11-20T12:00:00Z`; the epoch for what is outside the years of the calendar.
pub(crate) fn rfc3339(seconds: i64) -> String {
    const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    let moment = EPOCH.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(EPOCH);
    format!("{moment}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(shape: &mut impl Shape, count: u64, at: i64) {
        shape.object("");
        shape.text("name", "a");
        shape.array("list");
        shape.object("");
        shape.time("time", at);
        shape.number("count", count);
        shape.close();
        shape.object("");
        shape.close();
        shape.close();
        shape.number("twice", count * 2);
        shape.close();
    }

    #[test]
    fn a_rendered_template_is_json_with_the_numbers_of_the_moment() {
        let mut builder = TemplateBuilder::new(0);
        describe(&mut builder, 0, 0);
        let template = builder.finish();
        for (count, at, text) in
            [(0, 0, "1970-01-01T00:00:00Z"), (u64::MAX / 2, 1_700_000_000, "2023-11-14T22:13:20Z")]
        {
            let (mut out, mut times) = (Vec::new(), TimeTexts::default());
            let mut renderer = Renderer::new(&mut out, &mut times, &template);
            describe(&mut renderer, count, at);
            renderer.finish();
            let answer: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let expected = serde_json::json!({
                "name": "a", "list": [{"time": text, "count": count}, {}], "twice": count * 2,
            });
            assert_eq!(answer, expected);
        }
    }
}
