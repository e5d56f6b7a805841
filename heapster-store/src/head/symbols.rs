//! [`Symbols`]: the texts of a log file by their numbers. The writer adds texts while readers look
//! others up; neither ever waits.

use std::fmt;
use std::sync::OnceLock;

use heapster_core::Text;

/// Texts in a page.
const PAGE: usize = 256;
/// Parts of the directory; each has room for twice as many pages as the one before, so all of them
/// have room for every number of 32 bits.
const PARTS: usize = 25;

type Page = Box<[OnceLock<Text>]>;

/// Texts that never move and never change. A number without a text is one that a damaged record
/// defined.
#[derive(Default)]
pub(crate) struct Symbols {
    parts: [OnceLock<Box<[OnceLock<Page>]>>; PARTS],
}

impl Symbols {
    /// The text of a number.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&Text> {
        let (part, page, slot) = place(number);
        self.parts.get(part)?.get()?.get(page)?.get()?.get(slot)?.get()
    }

    /// Gives a number a text, unless it has one.
    pub fn set(&self, number: u32, text: Text) {
        let (part, page, slot) = place(number);
        let pages = self.parts[part].get_or_init(|| empty(1 << part));
        let _ = pages[page].get_or_init(|| empty(PAGE))[slot].set(text);
    }
}

/// Part, page in the part, and slot in the page.
#[inline]
fn place(number: u32) -> (usize, usize, usize) {
    let page = number as usize / PAGE + 1;
    let part = page.ilog2() as usize;
    (part, page - (1 << part), number as usize % PAGE)
}

fn empty<T>(len: usize) -> Box<[OnceLock<T>]> {
    std::iter::repeat_with(OnceLock::new).take(len).collect()
}

impl fmt::Debug for Symbols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Symbols").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_its_own_text_and_the_others_none() {
        let symbols = Symbols::default();
        let numbers = [0, 1, 255, 256, 511, 512, 767, 768, 100_000, u32::MAX];
        for number in numbers {
            assert_eq!(symbols.get(number), None);
            symbols.set(number, number.to_string().into());
        }
        for number in numbers {
            assert_eq!(symbols.get(number).unwrap().as_str(), number.to_string());
        }
        assert_eq!(symbols.get(2), None);
        assert_eq!(symbols.get(u32::MAX - 1), None);
    }
}
