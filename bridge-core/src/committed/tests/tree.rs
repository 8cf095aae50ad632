//! The server of these tests, under short names.

pub use crate::testing::transactions::{
    ClientOperation as Ask, CommittingServer as Server, ServerNode, ServerTree, acl, path,
};
