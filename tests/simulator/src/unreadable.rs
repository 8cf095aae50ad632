//! Znodes that the bridge may not read: what it found, and what its journal says of them.

use bridge_core::capture::CaptureState;
use bridge_core::path::ZnodePath;

use crate::coverage::Seen;
use crate::judge::check_begin;
use crate::world::World;

impl World {
    /// Notes what the bridge has found.
    pub(crate) fn note_unreadable(&mut self) {
        let Some(bridge) = &mut self.bridge else { return };
        let capture = bridge.flow.machine();
        let named: Vec<ZnodePath> = capture.unreadable(usize::MAX);
        if named.len() > bridge.unreadable.len() {
            self.seen.see(Seen::UnreadableFound);
        }
        if capture.state() == CaptureState::Live && named.len() < bridge.unreadable.len() {
            self.seen.see(Seen::UnreadableRegained);
        }
        if capture.state() == CaptureState::Live {
            bridge.unreadable = named;
        }
    }

    /// Judges since when znodes may not be read, of those that became known as such.
    pub(crate) fn judge_unreadable(&mut self) {
        let state = &self.store.disk.borrow().state;
        for span in &state.unreadable.spans {
            let is_new = self.unreadable_judged.insert((span.path.clone(), span.found.0));
            if is_new && !self.excuses.was_rewound && !self.excuses.accepted_baseline {
                check_begin(span, &state.model.image, &self.ensemble);
            }
        }
    }
}
