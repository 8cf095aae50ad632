//! Transactions on their way from a leader or from logs to the machine, with the owners of their sessions before them.

use bridge_core::committed::CommittedTxn;
use bridge_core::source::Input;
use bridge_transactions::transaction::Transaction;

use super::Driver;
use crate::observer::learner::CommittedPayload;
use crate::observer::stop::{Stop, unsupported};
use crate::observer::to_core::{committed, history};

impl Driver {
    /// Sends transactions to the machine, except for those without a number, which are no part of the history.
    pub(super) async fn forward(&mut self, transactions: Vec<CommittedPayload>) -> Result<(), Stop> {
        let digests = self.source.config.acl_digests;
        let history = history(&transactions, &mut self.last, digests).map_err(unsupported)?;
        self.name_sessions(&history).await?;
        match history.is_empty() {
            true => Ok(()),
            false => self.input(Input::Transactions(history)).await,
        }
    }

    /// Sends the owners of sessions that are new, before transactions of theirs.
    async fn name_sessions(&mut self, history: &[CommittedTxn]) -> Result<(), Stop> {
        let who = self.who.as_ref();
        let news = who.map(|who| who.news(history.iter().map(|txn| txn.session)));
        match news.filter(|news| !news.is_empty()) {
            Some(news) => self.input(Input::Sessions(news)).await,
            None => Ok(()),
        }
    }

    /// Sends transactions of a log to the machine.
    pub(super) async fn forward_logged(&mut self, transactions: Vec<Transaction>) -> Result<(), Stop> {
        let digests = self.source.config.acl_digests;
        let converted: Result<Vec<_>, String> = transactions
            .into_iter()
            .map(|transaction| committed(transaction, digests))
            .collect();
        let converted = converted.map_err(unsupported)?;
        self.name_sessions(&converted).await?;
        self.input(Input::Transactions(converted)).await
    }
}
