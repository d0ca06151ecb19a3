//! A table that grows by pieces.
//!
//! A vector that grows moves all it holds, which takes time in proportion to it, and leaves the places of its smaller selves behind, which
//! the allocator has to find a use for. What there is one of for each connection stands in a table like this instead.

use std::ops::{Index, IndexMut};

/// Entries of a piece.
const CHUNK: usize = 128;

/// Entries by number, of which there are always whole pieces; those that nobody has set are the default.
#[derive(Debug)]
pub(crate) struct Chunked<T> {
    chunks: Vec<Box<[T; CHUNK]>>,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Chunked<T> {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// The entry of this number; `None` where the table has never grown so far.
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        Some(&self.chunks.get(index / CHUNK)?[index % CHUNK])
    }

    /// The same, to be written to.
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        Some(&mut self.chunks.get_mut(index / CHUNK)?[index % CHUNK])
    }

    /// All entries, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

impl<T: Default> Chunked<T> {
    /// Grows, where it must, until there is an entry of this number, and gives it.
    pub(crate) fn ensure(&mut self, index: usize) -> &mut T {
        let (chunk, place) = (index / CHUNK, index % CHUNK);
        if chunk >= self.chunks.len() {
            let missing = chunk + 1 - self.chunks.len();
            let empty = || Box::new(std::array::from_fn(|_| T::default()));
            self.chunks.extend((0..missing).map(|_| empty()));
        }
        &mut self.chunks[chunk][place]
    }
}

impl<T> Index<usize> for Chunked<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        &self.chunks[index / CHUNK][index % CHUNK]
    }
}

impl<T> IndexMut<usize> for Chunked<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_as_far_as_it_must() {
        let mut table = Chunked::<u32>::default();
        assert_eq!((table.len(), table.get(0)), (0, None));
        *table.ensure(3 * CHUNK) = 7;
        assert_eq!(table.len(), 4 * CHUNK);
        table[CHUNK - 1] = 5;
        assert_eq!(*table.ensure(3 * CHUNK), 7, "what there is stays");
        assert_eq!(
            (table.get(CHUNK - 1), table.get(CHUNK)),
            (Some(&5), Some(&0))
        );
        assert_eq!(table.get_mut(4 * CHUNK), None);
        let set: Vec<u32> = table.iter().copied().filter(|entry| *entry > 0).collect();
        assert_eq!(set, [5, 7]);
    }

    #[test]
    fn what_stands_in_it_stays_where_it_is() {
        let mut table = Chunked::<u32>::default();
        let place = std::ptr::from_ref(table.ensure(0));
        table.ensure(100 * CHUNK);
        assert_eq!(std::ptr::from_ref(&table[0]), place);
    }
}
