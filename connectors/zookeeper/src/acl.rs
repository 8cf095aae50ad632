//! Access control lists: those of servers, of the client and of transactions as records have them, and back.
//!
//! Invariant: this is the only place that hides digests of passwords, so that no two outputs differ in what they show.

use bridge_core::record::Acl;
use bridge_transactions::transaction::AclEntry;
use zookeeper_client::{Acl as ClientAcl, AuthId, Permission};

use crate::config::AclDigests;

/// The letters of permissions in the order of records, with their bits.
const PERMISSIONS: [(char, i32, Permission); 5] = [
    ('c', 4, Permission::CREATE),
    ('d', 8, Permission::DELETE),
    ('r', 1, Permission::READ),
    ('w', 2, Permission::WRITE),
    ('a', 16, Permission::ADMIN),
];

/// A list of a transaction or snapshot as a record has it.
pub fn recorded(entries: &[AclEntry], digests: AclDigests) -> Vec<Acl> {
    let shown = |entry: &AclEntry| {
        let letters = PERMISSIONS
            .iter()
            .filter(|(_, bit, _)| entry.permissions & bit != 0);
        Acl {
            scheme: entry.scheme.clone(),
            id: shown_id(&entry.scheme, &entry.id, digests),
            perms: letters.map(|(letter, ..)| letter).collect(),
        }
    };
    entries.iter().map(shown).collect()
}

/// The first letter that is no permission.
pub fn unknown_letter(perms: &str) -> Option<char> {
    perms.chars().find(|letter| permission(*letter).is_none())
}

/// Whether an entry has a mask in the place of its digest.
pub fn is_masked(entry: &Acl) -> bool {
    entry.scheme == DIGEST && masked(&entry.id) == entry.id
}

/// An entry of a server's answer as a record has it.
pub(crate) fn of_client(entry: &ClientAcl, digests: AclDigests) -> Acl {
    let letters = PERMISSIONS
        .iter()
        .filter(|(.., permission)| entry.permission().has(*permission));
    Acl {
        scheme: entry.scheme().to_owned(),
        id: shown_id(entry.scheme(), entry.id(), digests),
        perms: letters.map(|(letter, ..)| letter).collect(),
    }
}

/// An entry of a record for the client.
///
/// # Errors
///
/// The first letter that is no permission.
pub(crate) fn to_client(entry: &Acl) -> Result<ClientAcl, char> {
    let mut permissions = Permission::NONE;
    for letter in entry.perms.chars() {
        permissions = permissions | permission(letter).ok_or(letter)?;
    }
    Ok(ClientAcl::new(permissions, AuthId::new(&entry.scheme, &entry.id)))
}

fn permission(letter: char) -> Option<Permission> {
    let known = PERMISSIONS.iter().find(|(one, ..)| *one == letter);
    known.map(|(.., permission)| *permission)
}

/// The scheme whose ids have digests of passwords.
const DIGEST: &str = "digest";

fn shown_id(scheme: &str, id: &str, digests: AclDigests) -> String {
    match (scheme, digests) {
        (DIGEST, AclDigests::Masked) => masked(id),
        _ => id.to_owned(),
    }
}

/// The user without the digest of the password, as servers write it for those without the permission 'a'.
fn masked(id: &str) -> String {
    id.split_once(':')
        .map_or_else(|| "x".to_owned(), |(user, _)| format!("{user}:x"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(scheme: &str, id: &str, perms: &str) -> Acl {
        Acl {
            scheme: scheme.to_owned(),
            id: id.to_owned(),
            perms: perms.to_owned(),
        }
    }

    #[test]
    fn of_a_digest_only_the_user_is_shown_by_default_wherever_the_list_comes_from() {
        let check = |scheme: &str, id: &str, digests, expected: &str| {
            let expected = entry(scheme, expected, "ra");
            let read = ClientAcl::new(Permission::READ | Permission::ADMIN, AuthId::new(scheme, id));
            assert_eq!(of_client(&read, digests), expected, "{digests:?}");
            let logged = AclEntry {
                permissions: 1 | 16,
                scheme: scheme.to_owned(),
                id: id.to_owned(),
            };
            assert_eq!(recorded(&[logged], digests), [expected], "{digests:?}");
        };
        check("digest", "user:hash=", AclDigests::Masked, "user:x");
        check("digest", "hash=", AclDigests::Masked, "x");
        check("digest", ":hash=", AclDigests::Masked, ":x");
        check("digest", "user:hash=", AclDigests::Full, "user:hash=");
        check("world", "anyone", AclDigests::Masked, "anyone");
        check("sasl", "user", AclDigests::Masked, "user");
        check("ip", "10.0.0.0/8", AclDigests::Masked, "10.0.0.0/8");
    }

    #[test]
    fn a_mask_is_known_from_every_id_that_masking_makes_and_from_no_other() {
        for id in ["user:hash=", "hash=", ":hash=", "user:", "a:b:c", ""] {
            assert!(!is_masked(&entry("digest", id, "r")), "{id}");
            assert!(is_masked(&entry("digest", &masked(id), "r")), "{id}");
        }
        assert!(!is_masked(&entry("sasl", "user:x", "r")));
    }

    #[test]
    fn permissions_are_letters_in_one_order_and_back() {
        let check = |permission, expected: &str| {
            let shown = of_client(&ClientAcl::new(permission, AuthId::anyone()), AclDigests::Masked);
            assert_eq!(shown.perms, expected);
            assert_eq!(to_client(&shown).map(|one| one.permission()), Ok(permission));
        };
        check(Permission::ALL, "cdrwa");
        check(Permission::NONE, "");
        check(Permission::WRITE | Permission::CREATE, "cw");
        assert_eq!(to_client(&entry("world", "anyone", "rx")), Err('x'));
    }
}
