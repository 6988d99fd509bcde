//! Building the one write of a batch: untouched runs of the read buffer, and bytes put in between.

use std::ops::Range;

/// What goes out in one write. As long as it is one unbroken run of the read buffer nothing is copied.
#[derive(Debug)]
pub(super) struct Splice<'a> {
    data: &'a [u8],
    run: Range<usize>,
    built: &'a mut Vec<u8>,
}

impl<'a> Splice<'a> {
    /// Starts empty; `built` is the thread's scratch buffer.
    pub fn new(data: &'a [u8], built: &'a mut Vec<u8>) -> Self {
        built.clear();
        Self { data, run: 0..0, built }
    }

    /// Passes on bytes of the read buffer.
    pub fn pass(&mut self, range: Range<usize>) {
        if self.run.is_empty() {
            self.run = range;
        } else if self.run.end == range.start {
            self.run.end = range.end;
        } else {
            self.settle();
            self.run = range;
        }
    }

    /// The buffer in which bytes of our own are appended.
    pub fn insert(&mut self) -> &mut Vec<u8> {
        self.settle();
        self.built
    }

    /// Drops everything that was to go out.
    pub fn discard(&mut self) {
        self.run = 0..0;
        self.built.clear();
    }

    fn settle(&mut self) {
        self.built.extend_from_slice(&self.data[std::mem::take(&mut self.run)]);
    }

    /// Everything, in order.
    pub fn finish(mut self) -> &'a [u8] {
        if self.built.is_empty() {
            &self.data[self.run]
        } else {
            self.settle();
            self.built
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_is_not_copied() {
        let data = b"abcdef".to_vec();
        let mut built = Vec::new();
        let mut splice = Splice::new(&data, &mut built);
        splice.pass(1..3);
        splice.pass(3..5);
        assert!(std::ptr::eq(splice.finish(), &data[1..5]));
    }

    #[test]
    fn keeps_the_order() {
        let mut built = b"old".to_vec();
        let mut splice = Splice::new(b"abcdef", &mut built);
        splice.insert().extend_from_slice(b"<");
        splice.pass(0..2);
        splice.pass(4..5);
        splice.insert().extend_from_slice(b">");
        splice.pass(5..6);
        assert_eq!(splice.finish(), b"<abe>f");
    }
}
