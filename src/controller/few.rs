//! A sorted set that mostly has one element: a tree of one takes half a kilobyte, and there are many a Rollout.

/// Elements in order, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Few<T> {
    sorted: Vec<T>,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { sorted: Vec::new() }
    }
}

impl<T: Ord> Few<T> {
    /// Adds an element, unless it is there.
    pub fn insert(&mut self, element: T) {
        if let Err(at) = self.sorted.binary_search(&element) {
            if self.sorted.is_empty() {
                self.sorted.reserve_exact(1);
            }
            self.sorted.insert(at, element);
        }
    }

    /// Removes an element, if it is there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, element: &Q)
    where
        T: std::borrow::Borrow<Q>,
    {
        if let Ok(at) = self.sorted.binary_search_by(|one| one.borrow().cmp(element)) {
            self.sorted.remove(at);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.sorted.iter()
    }
}

impl<'a, T: Ord> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_there_once_and_in_order() {
        let mut few: Few<String> = Few::default();
        ["b", "a", "c", "a"].iter().for_each(|one| few.insert((*one).to_owned()));
        few.remove("b");
        few.remove("x");
        assert_eq!(few.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "c"]);
        few.remove("a");
        few.remove("c");
        assert!(few.is_empty());
    }
}
