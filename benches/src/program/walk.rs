//! The raw walk: every znode of a tree with its value, by MultiReads, as fast as the server answers.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Instant;

use anyhow::{Result, bail};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use zookeeper_client::{Client, Error, MultiReadResult, Stat};

use super::{connect, say};

/// Znodes of one MultiRead: the server is not faster with more.
const BATCH: usize = 500;
/// Parallel MultiReads.
const WINDOW: usize = 10;
/// Child lists in one MultiRead: each may be long.
const LISTS: usize = 50;

type Answer = Result<Vec<MultiReadResult>, Error>;

/// The content of a MultiRead.
enum Asked {
    Data(Vec<String>),
    Children(Vec<String>),
}

/// Calls `visit` for each existing znode, parents first.
///
/// # Errors
///
/// If the session is lost, or `visit` fails.
pub(super) async fn each<F>(
    client: &Client,
    root: &str,
    mut visit: impl FnMut(String, Vec<u8>, Stat) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let (mut to_read, mut to_list) = (VecDeque::from([root.to_owned()]), VecDeque::new());
    let mut asked: VecDeque<Asked> = VecDeque::new();
    let mut answers: FuturesOrdered<BoxFuture<'_, Answer>> = FuturesOrdered::new();
    loop {
        while asked.len() < WINDOW {
            let Some((next, answer)) = ask(client, &mut to_read, &mut to_list)? else {
                break;
            };
            asked.push_back(next);
            answers.push_back(answer);
        }
        let Some(answer) = answers.next().await else {
            return Ok(());
        };
        let results = answer?;
        match asked.pop_front() {
            Some(Asked::Data(paths)) => {
                for (path, result) in paths.into_iter().zip(results) {
                    let Some((data, stat)) = data_of(result)? else {
                        continue;
                    };
                    if stat.num_children > 0 {
                        to_list.push_back(path.clone());
                    }
                    visit(path, data, stat).await?;
                }
            }
            Some(Asked::Children(parents)) => {
                for (parent, result) in parents.into_iter().zip(results) {
                    to_read.extend(children_of(&parent, result)?);
                }
            }
            None => bail!("an answer to nothing"),
        }
    }
}

/// The next request. Reads go before listings, so that few znodes are pending.
fn ask<'a>(
    client: &'a Client,
    to_read: &mut VecDeque<String>,
    to_list: &mut VecDeque<String>,
) -> Result<Option<(Asked, BoxFuture<'a, Answer>)>> {
    let mut reads = client.new_multi_reader();
    let is_enough = to_read.len() >= BATCH || to_list.is_empty();
    if !to_read.is_empty() && is_enough {
        let paths: Vec<String> = to_read.drain(..to_read.len().min(BATCH)).collect();
        for path in &paths {
            reads.add_get_data(path)?;
        }
        return Ok(Some((Asked::Data(paths), Box::pin(reads.commit()))));
    }
    if to_list.is_empty() {
        return Ok(None);
    }
    let parents: Vec<String> = to_list.drain(..to_list.len().min(LISTS)).collect();
    for parent in &parents {
        reads.add_get_children(parent)?;
    }
    Ok(Some((Asked::Children(parents), Box::pin(reads.commit()))))
}

/// `None` if the znode is gone.
pub(super) fn data_of(result: MultiReadResult) -> Result<Option<(Vec<u8>, Stat)>> {
    match result {
        MultiReadResult::Data { data, stat } => Ok(Some((data, stat))),
        MultiReadResult::Error { err: Error::NoNode } => Ok(None),
        other => bail!("an answer that was not asked for: {other:?}"),
    }
}

fn children_of(parent: &str, result: MultiReadResult) -> Result<Vec<String>> {
    match result {
        MultiReadResult::Children { children } => {
            let path = |name: String| match parent {
                "/" => format!("/{name}"),
                _ => format!("{parent}/{name}"),
            };
            Ok(children.into_iter().map(path).collect())
        }
        MultiReadResult::Error { err: Error::NoNode } => Ok(Vec::new()),
        other => bail!("an answer that was not asked for: {other:?}"),
    }
}

/// Walks once and prints the number of znodes and the seconds.
///
/// # Errors
///
/// If the session is lost.
pub async fn walk(servers: &str, root: &str) -> Result<()> {
    let client = connect(servers).await?;
    let began = Instant::now();
    let mut count = 0_usize;
    let visited = each(&client, root, |_, _, _| {
        count += 1;
        std::future::ready(Ok(()))
    });
    visited.await?;
    say(&format!("walked {count} {:.6}", began.elapsed().as_secs_f64()));
    Ok(())
}
