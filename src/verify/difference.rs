//! Compares one znode of the image with ZooKeeper. Pure.

use bridge_core::capture::Outcome;
use bridge_core::journal::Imaged;
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::record::Data;
use serde::Serialize;

/// The kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// Only ZooKeeper has it.
    OnlyInZookeeper,
    /// Only the image has it.
    OnlyInImage,
    /// Both have it, as different incarnations: it was deleted and created again.
    OtherLife,
    /// The same incarnation with another version.
    OtherVersion,
    /// The same version with other data.
    OtherData,
    /// The image knows that it exists, and has never read it.
    Unread,
}

/// The znode on one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ZnodeVersion {
    /// The transaction that created it.
    pub czxid: Zxid,
    /// The transaction that wrote it last; null if it was never read.
    pub mzxid: Option<Zxid>,
    /// Its version; null if it was never read.
    pub version: Option<i32>,
}

/// A znode that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its path.
    pub path: ZnodePath,
    /// The kind of the difference.
    pub kind: DifferenceKind,
    /// The znode in ZooKeeper.
    pub zookeeper: Option<ZnodeVersion>,
    /// The znode in the image.
    pub image: Option<ZnodeVersion>,
}

/// The difference; `None` if both sides are equal, or if the znode cannot be read and so cannot be compared.
pub fn compare(path: &ZnodePath, outcome: &Outcome, imaged: Option<&Imaged>) -> Option<Difference> {
    let image = imaged.map(|imaged| ZnodeVersion {
        czxid: imaged.node.czxid,
        mzxid: imaged.node.stat.map(|stat| stat.mzxid),
        version: imaged.node.stat.map(|stat| stat.version),
    });
    let difference = |kind, zookeeper, image| {
        Some(Difference {
            path: path.clone(),
            kind,
            zookeeper,
            image,
        })
    };
    let (stat, data) = match outcome {
        Outcome::Denied => return None,
        Outcome::Missing => {
            return image.and_then(|image| difference(DifferenceKind::OnlyInImage, None, Some(image)));
        }
        Outcome::Found { stat, data, .. } => (stat, data),
    };
    let zookeeper = ZnodeVersion {
        czxid: stat.czxid,
        mzxid: Some(stat.mzxid),
        version: Some(stat.version),
    };
    let (Some(imaged), Some(image)) = (imaged, image) else {
        return difference(DifferenceKind::OnlyInZookeeper, Some(zookeeper), None);
    };
    let kind = if image.czxid != zookeeper.czxid {
        DifferenceKind::OtherLife
    } else if image.mzxid.is_none() {
        DifferenceKind::Unread
    } else if image != zookeeper {
        DifferenceKind::OtherVersion
    } else if is_other_data(imaged, data) {
        DifferenceKind::OtherData
    } else {
        return None;
    };
    difference(kind, Some(zookeeper), Some(image))
}

/// Compares size, beginning and digest of data that a limit cut, the size of data that is masked, and does not compare
/// data that is not kept.
fn is_other_data(imaged: &Imaged, data: &[u8]) -> bool {
    imaged.data.as_ref().is_some_and(|kept| {
        let is_other = |digest| Data::limited(data, kept.form, kept.bytes.len()).digest != Some(digest);
        if kept.is_masked() {
            return kept.size as usize != data.len();
        }
        kept.size as usize != data.len()
            || !data.starts_with(&kept.bytes)
            || kept.digest.is_some_and(is_other)
    })
}

impl Difference {
    /// Whether the image has reached the version that ZooKeeper had at an earlier read. A znode that is written all the
    /// time never equals the image, although the image follows it.
    pub fn has_followed(&self, earlier: &Difference) -> bool {
        let image = self.image.as_ref().and_then(|side| side.mzxid);
        let was = earlier.zookeeper.as_ref().and_then(|side| side.mzxid);
        self.kind != DifferenceKind::OtherData && image.zip(was).is_some_and(|(image, was)| image >= was)
    }

    /// The difference as a sentence.
    pub fn sentence(&self) -> String {
        let words = |side: &Option<ZnodeVersion>| match side {
            Some(ZnodeVersion {
                mzxid: Some(mzxid),
                version: Some(version),
                ..
            }) => format!("version {version} of {mzxid}"),
            Some(ZnodeVersion { czxid, .. }) => format!("created at {czxid}, never read"),
            None => "none".to_owned(),
        };
        let (zookeeper, image) = (words(&self.zookeeper), words(&self.image));
        match self.kind {
            DifferenceKind::OnlyInZookeeper => format!("only in ZooKeeper: {zookeeper}"),
            DifferenceKind::OnlyInImage => format!("only in the image: {image}"),
            DifferenceKind::OtherLife => {
                format!("another incarnation: ZooKeeper has {zookeeper}, the image {image}")
            }
            DifferenceKind::OtherVersion => format!("ZooKeeper has {zookeeper}, the image {image}"),
            DifferenceKind::OtherData => format!("other data at the same version: {zookeeper}"),
            DifferenceKind::Unread => format!("never read by the bridge: ZooKeeper has {zookeeper}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bridge_core::image_txn::Node;
    use bridge_core::record::{Data, DataForm, Stat};

    use super::*;

    fn stat(czxid: u64, mzxid: u64, version: i32) -> Stat {
        Stat {
            czxid: Zxid(czxid),
            mzxid: Zxid(mzxid),
            version,
            ..Stat::default()
        }
    }

    fn found(stat: Stat, data: &str) -> Outcome {
        Outcome::Found {
            stat,
            data: data.as_bytes().into(),
            children: None,
        }
    }

    fn imaged(stat: Stat, data: Option<Data>) -> Imaged {
        let node = Node {
            czxid: stat.czxid,
            stat: Some(stat),
        };
        Imaged { node, data }
    }

    #[test]
    fn each_way_to_differ_has_its_word() {
        let path = ZnodePath::parse("/a").unwrap();
        let kept = |max| Some(Data::limited(b"value", DataForm::Auto, max));
        let same = imaged(stat(1, 2, 1), kept(99));
        let check = |outcome: &Outcome, imaged: Option<&Imaged>, expected: Option<DifferenceKind>| {
            let kind = compare(&path, outcome, imaged).map(|difference| difference.kind);
            assert_eq!(kind, expected, "{outcome:?} {imaged:?}");
        };
        let there = found(stat(1, 2, 1), "value");
        check(&there, Some(&same), None);
        check(&there, None, Some(DifferenceKind::OnlyInZookeeper));
        check(&Outcome::Missing, Some(&same), Some(DifferenceKind::OnlyInImage));
        check(&Outcome::Missing, None, None);
        check(&Outcome::Denied, Some(&same), None);
        check(
            &found(stat(3, 3, 0), "value"),
            Some(&same),
            Some(DifferenceKind::OtherLife),
        );
        check(
            &found(stat(1, 3, 2), "value"),
            Some(&same),
            Some(DifferenceKind::OtherVersion),
        );
        check(
            &found(stat(1, 2, 1), "valeu"),
            Some(&same),
            Some(DifferenceKind::OtherData),
        );
        // Only what is kept is compared.
        check(&there, Some(&imaged(stat(1, 2, 1), kept(3))), None);
        check(&there, Some(&imaged(stat(1, 2, 1), None)), None);
        let unread = Imaged {
            node: Node {
                czxid: Zxid(1),
                stat: None,
            },
            data: None,
        };
        check(&there, Some(&unread), Some(DifferenceKind::Unread));
    }

    #[test]
    fn an_image_that_comes_past_what_was_shown_follows() {
        let path = ZnodePath::parse("/a").unwrap();
        let look = |zookeeper: u64, image: u64, data: &str| {
            let imaged = imaged(
                stat(1, image, 0),
                Some(Data::limited(b"value", DataForm::Auto, 99)),
            );
            compare(&path, &found(stat(1, zookeeper, 0), data), Some(&imaged)).unwrap()
        };
        let earlier = look(5, 4, "value");
        assert!(look(9, 5, "value").has_followed(&earlier));
        assert!(!look(9, 4, "value").has_followed(&earlier));
        assert!(!look(5, 5, "other").has_followed(&look(5, 5, "other")));
        let gone = Difference {
            image: None,
            kind: DifferenceKind::OnlyInZookeeper,
            ..look(5, 4, "value")
        };
        assert!(!gone.has_followed(&earlier));
    }
}
