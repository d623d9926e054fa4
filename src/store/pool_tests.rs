use std::sync::mpsc;

use super::*;
use crate::store::migrate;

/// A pool over a database of its own.
fn pool() -> (tempfile::TempDir, ReadPool) {
    let directory = tempfile::tempdir().unwrap();
    let url: DatabaseUrl = format!("sqlite:{}", directory.path().join("t.db").display()).parse().unwrap();
    migrate(&url).unwrap();
    (directory, ReadPool::new(url, Blocking::Threads))
}

#[actix_rt::test]
async fn connections_are_used_again_and_there_are_never_more_than_the_bound() {
    let (_directory, pool) = pool();
    let (sender, receiver) = mpsc::channel::<()>();
    let receiver = Arc::new(Mutex::new(receiver));
    let reads: Vec<_> = (0..CONNECTIONS_MAX + 3)
        .map(|_| {
            let (pool, receiver) = (pool.clone(), Arc::clone(&receiver));
            actix_rt::spawn(async move {
                pool.read(move |reader| {
                    let endpoints = reader.endpoints()?;
                    receiver.lock().unwrap().recv().unwrap();
                    Ok(endpoints.len())
                })
                .await
            })
        })
        .collect();
    while pool.state().waiting < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(pool.state().running, CONNECTIONS_MAX);
    (0..CONNECTIONS_MAX + 3).for_each(|_| sender.send(()).unwrap());
    for read in reads {
        assert_eq!(read.await.unwrap(), Ok(0));
    }
    assert!((1..=CONNECTIONS_MAX).contains(&pool.0.idle.lock().unwrap().len()));
    assert_eq!(pool.state(), PoolState::default());
}

#[actix_rt::test]
async fn who_comes_when_too_many_wait_is_refused_at_once() {
    let (_directory, pool) = pool();
    let (sender, receiver) = mpsc::channel::<()>();
    let receiver = Arc::new(Mutex::new(receiver));
    let all = CONNECTIONS_MAX + WAITING_MAX;
    let reads: Vec<_> = (0..all)
        .map(|_| {
            let (pool, receiver) = (pool.clone(), Arc::clone(&receiver));
            actix_rt::spawn(async move {
                let wait = move |_: &mut ReadConnection| {
                    receiver.lock().unwrap().recv().map_err(|error| QueryError::Busy(error.to_string()))
                };
                pool.read(wait).await
            })
        })
        .collect();
    while pool.state().waiting < WAITING_MAX {
        tokio::task::yield_now().await;
    }
    let refused = pool.read(|_| Ok(())).await.unwrap_err();
    assert!(matches!(&refused, QueryError::Busy(reason) if reason.contains("wait")), "{refused}");
    assert_eq!(pool.state().refused, 1);
    (0..all).for_each(|_| sender.send(()).unwrap());
    for read in reads {
        read.await.unwrap().unwrap();
    }
    assert_eq!(pool.read(|_| Ok(7)).await, Ok(7));
}

#[actix_rt::test]
async fn a_read_without_an_end_is_given_up_and_keeps_its_turn_until_it_ends() {
    let (_directory, pool) = pool();
    let (sender, receiver) = mpsc::channel::<()>();
    let receiver = Mutex::new(receiver);
    tokio::time::pause();
    let reader = pool.clone();
    let wait = move |_: &mut ReadConnection| receiver.lock().unwrap().recv().map_err(|error| QueryError::Busy(error.to_string()));
    let stuck = actix_rt::spawn(async move { reader.read(wait).await });
    while pool.state().running == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::advance(LIMIT + Duration::from_secs(1)).await;
    let late = stuck.await.unwrap().unwrap_err();
    assert!(matches!(&late, QueryError::Busy(reason) if reason.contains("10 s")), "{late}");
    assert_eq!((pool.state().late, pool.state().running), (1, 1));
    tokio::time::resume();
    sender.send(()).unwrap();
    while pool.state().running > 0 {
        tokio::task::yield_now().await;
    }
}

#[actix_rt::test]
async fn a_database_that_is_not_there_is_an_error_and_is_found_when_it_comes() {
    let directory = tempfile::tempdir().unwrap();
    let url: DatabaseUrl = format!("sqlite:{}", directory.path().join("t.db").display()).parse().unwrap();
    let pool = ReadPool::new(url.clone(), Blocking::Threads);
    let read = |reader: &mut ReadConnection| Ok(reader.endpoints()?.len());
    assert!(matches!(pool.read(read).await, Err(QueryError::Store(_))));
    migrate(&url).unwrap();
    assert_eq!(pool.read(read).await, Ok(0));
}
