//! Rules that are equal are kept once: thousands of connections of one kind then cost one.

use std::collections::HashSet;
use std::sync::Arc;

use shardcast_shard::rights::Rules;

/// Rules that each of the two generations remembers. What is forgotten lives on with the connections that have it.
const GENERATION_RULES_MAX: usize = 512;

/// The rules that were granted lately on one shard.
#[derive(Debug, Default)]
pub(super) struct RulesCache {
    young: HashSet<Arc<Rules>>,
    old: HashSet<Arc<Rules>>,
}

impl RulesCache {
    /// The one copy of these rules.
    pub(super) fn share(&mut self, rules: Rules) -> Arc<Rules> {
        if let Some(known) = self.young.get(&rules) {
            return Arc::clone(known);
        }
        let shared = self.old.take(&rules).unwrap_or_else(|| Arc::new(rules));
        if self.young.len() == GENERATION_RULES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(Arc::clone(&shared));
        shared
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rules(number: usize) -> Rules {
        Rules {
            rooms: Vec::new(),
            direct: vec![format!("user-{number}").parse().unwrap()],
        }
    }

    #[test]
    fn equal_rules_are_one() {
        let mut cache = RulesCache::default();
        let first = cache.share(rules(0));
        assert!(Arc::ptr_eq(&first, &cache.share(rules(0))));
        assert!(!Arc::ptr_eq(&first, &cache.share(rules(1))));
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten() {
        let mut cache = RulesCache::default();
        let used = cache.share(rules(0));
        let unused = cache.share(rules(1));
        for number in 2..10 * GENERATION_RULES_MAX {
            cache.share(rules(number));
            assert!(Arc::ptr_eq(&used, &cache.share(rules(0))));
            assert!(cache.young.len() + cache.old.len() <= 2 * GENERATION_RULES_MAX);
        }
        assert_eq!(Arc::strong_count(&unused), 1);
    }
}
