//! Of which records deletions are looked for, and how much an answer may shrink.

use crate::entity::Entity;

/// How much an answer may shrink, in percent, where `DELETIONS_MAX_PERCENT` does not say.
pub const DEFAULT_MAX_PERCENT: u8 = 30;

/// Of which kinds of record deletions are looked for, and up to how many are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletionRules {
    /// By [`Entity`], in the order of [`Entity::ALL`].
    kinds: [bool; 3],
    max_percent: u8,
}

impl Default for DeletionRules {
    /// Branches and employees, as where `DELETIONS` does not say.
    fn default() -> Self {
        Self::of(&[Entity::Branch, Entity::Salesperson])
    }
}

impl DeletionRules {
    /// Deletions of these kinds are looked for.
    pub fn of(kinds: &[Entity]) -> Self {
        Self {
            kinds: Entity::ALL.map(|kind| kinds.contains(&kind)),
            max_percent: DEFAULT_MAX_PERCENT,
        }
    }

    /// Reads kinds as `DELETIONS` names them; `None` if it names something else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim() == "none" {
            return Some(Self::of(&[]));
        }
        let kind = |name: &str| Entity::ALL.into_iter().find(|kind| kind.list_name() == name.trim());
        let kinds: Vec<_> = text.split(',').map(kind).collect::<Option<_>>()?;
        Some(Self::of(&kinds))
    }

    /// The same, but where more than `percent` of an answer has vanished nothing is marked; 100: however much has.
    pub fn with_max_percent(self, percent: u8) -> Self {
        Self {
            max_percent: percent,
            ..self
        }
    }

    /// Whether deletions of this kind are looked for.
    pub fn include(self, kind: Entity) -> bool {
        Entity::ALL
            .into_iter()
            .zip(self.kinds)
            .any(|(other, is_included)| other == kind && is_included)
    }

    /// How many may vanish at once of so many: one, however few there were.
    pub fn most_missing(self, before: usize) -> usize {
        let share = before.saturating_mul(self.max_percent.into()) / 100;
        share.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_as_the_vendor_names_its_lists() {
        let included = |text: &str| DeletionRules::parse(text).map(|rules| Entity::ALL.map(|kind| rules.include(kind)));
        for (text, kinds) in [
            ("branches,employees", [true, true, false]),
            ("sales , branches", [true, false, true]),
            ("employees,employees", [false, true, false]),
            ("none", [false, false, false]),
        ] {
            assert_eq!(included(text), Some(kinds), "{text}");
        }
        for text in ["branch", "branches,", "none,sales", "Sales", "branches employees", ","] {
            assert_eq!(included(text), None, "{text}");
        }
    }

    #[test]
    fn one_may_always_vanish_and_of_many_a_share() {
        let most = |percent, before| DeletionRules::default().with_max_percent(percent).most_missing(before);
        for (percent, before, expected) in [
            (30, 0, 1),
            (30, 1, 1),
            (30, 6, 1),
            (30, 7, 2),
            (30, 10, 3),
            (0, 1000, 1),
            (100, 1000, 1000),
        ] {
            assert_eq!(most(percent, before), expected, "{percent} % of {before}");
        }
    }
}
