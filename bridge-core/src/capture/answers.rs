//! Handles the answers to the reads of a walk and of a sample.

use crate::append::DeletedAt;
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{GapReason, Stat};

use super::EventKind;
use super::audit::{self, Seen};
use super::batch::{Purpose, Request};
use super::follow::Follow;
use super::roots::StepContext;
use super::walk::{Fate, RootWalk, nearest_pzxid};
use super::{Outcome, ReadRequest, StepError, StepResult, lagging};

/// Compares a sample with the image.
pub(crate) fn check_sample(
    context: &mut StepContext<'_>,
    follow: &Follow,
    request: Request,
    outcomes: &[Outcome],
) -> StepResult<()> {
    let seen = Seen {
        follow,
        touched: request.touched.as_ref(),
    };
    for (read, outcome) in request.reads.iter().zip(outcomes) {
        let Some(root) = context.options.root_of(&read.path) else {
            continue;
        };
        audit::check(context, &seen, root, &read.path, outcome)?;
    }
    Ok(())
}

/// Compares the answers of a walk with the image, and queues the next reads of the walk.
pub(crate) fn walk_answered(
    context: &mut StepContext<'_>,
    follow: &mut Follow,
    walk: &mut RootWalk,
    request: Request,
    outcomes: Vec<Outcome>,
) -> StepResult<()> {
    walk.answered();
    if walk.is_audit {
        return audit_answered(context, follow, walk, &request, outcomes);
    }
    let covers = request.covers;
    let is_list = matches!(request.purpose, Purpose::WalkList);
    let is_above = is_list && request.reads.len() > 1 && !request.reads[1].children;
    let above = if is_above {
        Some(nearest_pzxid(&outcomes[1..]))
    } else {
        None
    };
    let reads = if is_above {
        &request.reads[..1]
    } else {
        &request.reads[..]
    };
    for (read, outcome) in reads.iter().zip(outcomes) {
        if !walk.awaits(&read.path) {
            follow.offer(&read.path, covers, outcome);
            continue;
        }
        match is_list {
            true => listed(context, follow, walk, read, outcome, covers, above)?,
            false => read_answered(context, follow, walk, read, outcome, covers)?,
        }
    }
    settle_fates(follow, walk);
    Ok(())
}

/// Compares the answers of an audit with the image, while the watch is active and events arrive.
fn audit_answered(
    context: &mut StepContext<'_>,
    follow: &Follow,
    walk: &mut RootWalk,
    request: &Request,
    outcomes: Vec<Outcome>,
) -> StepResult<()> {
    let seen = Seen {
        follow,
        touched: request.touched.as_ref(),
    };
    for (read, mut outcome) in request.reads.iter().zip(outcomes) {
        let path = &read.path;
        if !matches!(request.purpose, Purpose::WalkList) {
            walk.read(path, found(&outcome));
            audit::check(context, &seen, walk.root, path, &outcome)?;
            continue;
        }
        if let Outcome::Found {
            children: Some(names),
            ..
        } = &mut outcome
        {
            names.retain(|name| !context.options.is_left_out(&path.child(name)));
        }
        audit::check(context, &seen, walk.root, path, &outcome)?;
        let names = match outcome {
            Outcome::Found { children, .. } => children,
            Outcome::Missing | Outcome::Denied => None,
        };
        walk.listed(path, names);
    }
    Ok(())
}

/// Decides on events whose fate depended on these answers.
fn settle_fates(follow: &mut Follow, walk: &RootWalk) {
    for path in follow.tentative() {
        match walk.fate(&path) {
            Fate::Walk => follow.leave_to_walk(&path),
            Fate::Open => {}
            Fate::Event => follow.confirm(&path),
        }
    }
}

/// A listed child was read.
fn read_answered(
    context: &mut StepContext<'_>,
    follow: &mut Follow,
    walk: &mut RootWalk,
    read: &ReadRequest,
    outcome: Outcome,
    covers: u64,
) -> StepResult<()> {
    let (root, path) = (walk.root, &read.path);
    walk.read(path, found(&outcome));
    match outcome {
        Outcome::Found { stat, data, .. } => {
            context.roots[root].listed(&stat);
            follow.absorb(path, covers, Some(&stat));
            context.reconcile(root, path, &stat, &data)?;
            if stat.num_children == 0 {
                context.drop_gone_children(root, path, &stat, &[])?;
            }
            if follow.has(path, EventKind::Deleted, covers) {
                walk.ended(path);
            }
        }
        Outcome::Missing => {
            follow.absorb(path, covers, None);
            return missing(context, follow, walk, path);
        }
        Outcome::Denied => context.deny(root, path)?,
    }
    Ok(())
}

fn found(outcome: &Outcome) -> Option<(usize, i32)> {
    match outcome {
        Outcome::Found { stat, data, .. } => Some((data.len(), stat.num_children)),
        Outcome::Missing | Outcome::Denied => None,
    }
}

/// Handles a listed znode that no longer exists. Its delete event reports that; without one its parent is listed again.
fn missing(
    context: &mut StepContext<'_>,
    follow: &Follow,
    walk: &mut RootWalk,
    path: &ZnodePath,
) -> StepResult<()> {
    if follow.has(path, EventKind::Deleted, 0) || context.image.node(path)?.is_none() {
        return Ok(());
    }
    if walk.list_again(path) {
        return Ok(());
    }
    Err(StepError::Doubt(GapReason::Liveness))
}

/// A znode was read together with the names of its children.
fn listed(
    context: &mut StepContext<'_>,
    follow: &mut Follow,
    walk: &mut RootWalk,
    read: &ReadRequest,
    outcome: Outcome,
    covers: u64,
    above: Option<Option<Zxid>>,
) -> StepResult<()> {
    let (root, path) = (walk.root, &read.path);
    match outcome {
        Outcome::Found { stat, data, children } => {
            check_root_is_new(context, root, path, &stat)?;
            let names = names_to_read(context, path, children.unwrap_or_default());
            context.roots[root].listed(&stat);
            if follow.has_events(path) && *path != context.roots[root].path {
                follow.offer(
                    path,
                    covers,
                    Outcome::Found {
                        stat,
                        data,
                        children: None,
                    },
                );
            } else {
                follow.absorb(path, covers, Some(&stat));
                context.reconcile(root, path, &stat, &data)?;
            }
            context.drop_gone_children(root, path, &stat, &names)?;
            // It was deleted after the read was sent: the next incarnation has all its events, too.
            let has_ended = follow.has(path, EventKind::Deleted, covers);
            walk.listed(path, (!has_ended).then_some(names));
            Ok(())
        }
        Outcome::Denied => {
            walk.listed(path, None);
            context.deny(root, path)?;
            Ok(())
        }
        Outcome::Missing if *path == context.roots[root].path => {
            root_is_missing(context, follow, walk, covers, above)
        }
        Outcome::Missing => {
            walk.listed(path, None);
            missing(context, follow, walk, path)
        }
    }
}

/// A root whose delete was recorded does not exist again without a newer zxid. Nothing else identifies a server that
/// has not applied the delete.
fn check_root_is_new(
    context: &mut StepContext<'_>,
    root: usize,
    path: &ZnodePath,
    stat: &Stat,
) -> StepResult<()> {
    let is_suspect = *path == context.roots[root].path
        && context.roots[root].is_past(stat)
        && context.may_lag
        && !context.options.accept_baseline;
    if is_suspect && context.image.node(path)?.is_none() {
        let reported = context.roots[root].reported_zxid();
        return Err(lagging(path, "nothing beyond", stat.newest_zxid(), reported));
    }
    Ok(())
}

/// Handles a root that does not exist: it stays watched. Its znodes in the image are deleted, bound by the nearest
/// ancestor; changes that were never observed happened before that bound, too.
fn root_is_missing(
    context: &mut StepContext<'_>,
    follow: &mut Follow,
    walk: &mut RootWalk,
    covers: u64,
    above: Option<Option<Zxid>>,
) -> StepResult<()> {
    let (root, path) = (walk.root, context.roots[walk.root].path.clone());
    let Some(pzxid) = above.or(path.is_slash().then_some(None)) else {
        walk.read_above();
        return Ok(());
    };
    walk.listed(&path, None);
    follow.absorb(&path, covers, None);
    context.roots[root].is_missing(pzxid.unwrap_or_default());
    let at = pzxid.map_or(DeletedAt::Unknown, DeletedAt::Bound);
    match context.image.node(&path)? {
        Some(node) => {
            let at = pzxid.map_or(at, |pzxid| context.bound(pzxid, &node));
            context.drop_gone(root, &path, &node, at)?;
        }
        None => context.purge(root, &path, None, at)?,
    }
    Ok(())
}

/// Removes excluded names. The rest stays sorted.
fn names_to_read(context: &StepContext<'_>, path: &ZnodePath, mut names: Vec<Box<str>>) -> Vec<Box<str>> {
    names.retain(|name| !context.options.is_left_out(&path.child(name)));
    names
}

/// Sorts the names of children: servers list them in any order, the image has the order of bytes.
pub(crate) fn sort_names(outcome: &mut Outcome) {
    if let Outcome::Found {
        children: Some(names),
        ..
    } = outcome
    {
        names.sort_unstable();
    }
}
