//! Values at numbered places, so that a walk over all of them can be left and taken up again.

/// Values of a page: growing by pages, not by doubling, copies nothing while a lock is held.
const PAGE: usize = 1024;

/// Values that keep their place for as long as they live.
#[derive(Debug)]
pub struct Slab<T> {
    pages: Vec<Vec<Option<T>>>,
    free: Vec<usize>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            pages: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// The first place never used.
    pub fn end(&self) -> usize {
        match self.pages.last() {
            Some(last) => (self.pages.len() - 1) * PAGE + last.len(),
            None => 0,
        }
    }

    /// What is at `place`.
    pub fn get(&self, place: usize) -> Option<&T> {
        self.pages.get(place / PAGE)?.get(place % PAGE)?.as_ref()
    }

    /// What is at `place`, to be changed.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        let page = self.pages.get_mut(place / PAGE)?;
        page.get_mut(place % PAGE)?.as_mut()
    }

    /// Puts `value` at a place that is free; says which.
    pub fn insert(&mut self, value: T) -> usize {
        if let Some(place) = self.free.pop()
            && let Some(page) = self.pages.get_mut(place / PAGE)
            && let Some(slot) = page.get_mut(place % PAGE)
        {
            *slot = Some(value);
            return place;
        }
        let place = self.end();
        match self.pages.last_mut().filter(|page| page.len() < PAGE) {
            Some(page) => page.push(Some(value)),
            None => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(Some(value));
                self.pages.push(page);
            }
        }
        place
    }

    /// Takes what is at `place`, which becomes free.
    pub fn remove(&mut self, place: usize) -> Option<T> {
        let value = self
            .pages
            .get_mut(place / PAGE)?
            .get_mut(place % PAGE)?
            .take()?;
        self.free.push(place);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Places are unique while in use, and are used again.
        #[test]
        fn it_is_a_map_that_chooses_its_keys(ops in prop::collection::vec(any::<u16>(), 1..3000)) {
            let (mut slab, mut model) = (Slab::default(), BTreeMap::new());
            for (number, op) in ops.into_iter().enumerate() {
                let victim = model.keys().nth(op as usize % model.len().max(1)).copied();
                match victim.filter(|_| op % 3 == 0) {
                    Some(place) => prop_assert_eq!(slab.remove(place), model.remove(&place)),
                    None => prop_assert!(model.insert(slab.insert(number), number).is_none()),
                }
            }
            for place in 0..slab.end() + 2 {
                prop_assert_eq!(slab.get(place), model.get(&place));
            }
            prop_assert_eq!(slab.remove(slab.end()), None);
            prop_assert_eq!(slab.end() - slab.free.len(), model.len());
        }
    }
}
