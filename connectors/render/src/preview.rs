//! The text that a sink would write, for a look at it before the file changes. Opens, locks and writes no file.

use std::sync::Arc;

use bridge_core::outbound::TreeTemplate;
use bridge_core::sink::SinkError;
use bridge_core::subtree::{Subtree, SubtreeReader};

use crate::config::RenderConfig;
use crate::encode::{FileContent, encode};
use crate::error;
use crate::sink::read_tree;

/// The file of a sink, as the present tree makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenderPreview {
    /// It has this text.
    Text(String),
    /// It stays as it is, for this reason.
    Kept(String),
}

impl RenderPreview {
    /// Renders the file of these options over the present state of an image.
    ///
    /// # Errors
    ///
    /// As a delivery: the template is none, fails over the tree, or a limit is exceeded; the image cannot be read.
    pub fn of_image(
        config: &RenderConfig,
        image: &mut dyn SubtreeReader,
    ) -> Result<RenderPreview, SinkError> {
        RenderPreview::of_tree(config, read_tree(config, image)?)
    }

    /// Renders the file of these options over these znodes.
    ///
    /// # Errors
    ///
    /// As [`RenderPreview::of_image`].
    pub fn of_tree(config: &RenderConfig, tree: Subtree) -> Result<RenderPreview, SinkError> {
        let template = TreeTemplate::parse(&config.template, config.form());
        let template = template.map_err(|reason| error::no_text(config, &reason))?;
        Ok(match encode(&Arc::new(tree), &template, config)? {
            FileContent::Text(text) => RenderPreview::Text(text),
            FileContent::Kept(kept) => RenderPreview::Kept(kept.to_string()),
        })
    }
}
