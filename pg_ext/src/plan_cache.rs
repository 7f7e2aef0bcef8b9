//! One plan a relation, compiled anew when the catalogs changed.
//!
//! A plan is used only after everything that the server reported since the last change
//! was applied, and only with the very descriptor it was compiled from. The second test
//! needs no message: a relation that was loaded anew has another descriptor.
//!
//! A plan depends on more than its relation: a row type that a column has, or an array of
//! it, or another row type, is a relation of its own, and what is reported of that removes
//! the plan too. A change of an enum removes all plans, which hold its labels; one of another
//! type the plans whose schemas name it.
//!
//! What is reported is forgotten, not kept as stale: a dropped table is reported too, and
//! a session that lives for months must not remember every table that ever was.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::access::Scope;
use crate::pg::{RelationRef, Stale, is_quiet, take_invalidated};
use crate::plan::RelationPlan;

/// A plan and what the reader of the stream knows of it.
pub(crate) struct CachedPlan {
    pub(crate) plan: RelationPlan,
    /// Whether the reader knows the description that this very plan has.
    pub(crate) announced: bool,
    /// Two plans of one epoch saw the same catalogs: see [`PlanCache::get`]. None where they
    /// changed while the plan was compiled.
    pub(crate) epoch: Option<u64>,
    /// The last transaction whose watch over the catalogs knows that rows are sent under
    /// it.
    pub(crate) noted_in: Option<u32>,
}

#[derive(Default)]
pub(crate) struct PlanCache {
    plans: HashMap<u32, CachedPlan, BuildHasherDefault<OidHasher>>,
    /// Goes up whenever something was reported.
    epoch: u64,
}

impl PlanCache {
    /// The relation's plan as of the snapshot in force.
    pub(crate) fn get(&mut self, relation: RelationRef<'_>, scope: Scope<'_>) -> &mut CachedPlan {
        self.apply_invalidations();
        let id = relation.id();
        let current = self
            .plans
            .get(&id)
            .is_some_and(|cached| cached.plan.descriptor_address == relation.descriptor_address());
        if !current {
            // Lookups within may note further invalidations; they are applied at the next
            // change, before this plan is used again.
            let plan = RelationPlan::of_stream(relation, scope);
            // Nothing was reported between the beginnings of two plans of one epoch, nor while
            // either was compiled.
            let epoch = is_quiet().then_some(self.epoch);
            self.plans.insert(
                id,
                CachedPlan {
                    plan,
                    announced: false,
                    epoch,
                    noted_in: None,
                },
            );
        }
        self.plans
            .get_mut(&id)
            .unwrap_or_else(|| unreachable!("the plan was found or inserted above"))
    }

    /// The reader may have been told of some relation what its plan does not say: each plan
    /// is compared with that before it is used again.
    pub(crate) fn announce_anew(&mut self) {
        for cached in self.plans.values_mut() {
            cached.announced = false;
        }
    }

    /// Every plan is to be compiled anew: what decides them besides the catalogs has changed.
    pub(crate) fn forget(&mut self) {
        self.plans.clear();
        self.epoch += 1;
    }

    fn apply_invalidations(&mut self) {
        if !is_quiet() {
            self.epoch += 1;
        }
        take_invalidated(|stale| match stale {
            Stale::Relation(changed) => self
                .plans
                .retain(|id, cached| *id != changed && !cached.plan.depends_on.contains(&changed)),
            Stale::Type(changed) => self
                .plans
                .retain(|_, cached| !cached.plan.names_types.contains(&changed)),
            Stale::All => self.plans.clear(),
        });
    }
}

/// OIDs come from a counter, so one multiplication spreads them well.
#[derive(Default)]
struct OidHasher(u64);

impl Hasher for OidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, oid: u32) {
        // 2^64 / the golden ratio: Knuth's multiplicative hash.
        self.0 = (self.0 ^ u64::from(oid)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
