use super::*;

/// Reads what is there, at most `limit` frames.
fn take(frames: &mut Frames, limit: usize, heard: &mut Vec<(u64, u64)>) {
    for _ in 0..limit {
        let Some(frame) = frames.try_next().unwrap() else {
            return;
        };
        // Closing marks carry nothing.
        if let Some(write) = frame.writes.first() {
            heard.push((frame.sequence.0, write.row::<Note>().unwrap().unwrap().id));
        }
    }
}

/// Bar: F-15 for the ledger's side: each once, in order, over restarts.
#[tokio::test]
async fn a_follower_that_lags_and_resumes_hears_each_frame_once() {
    let disk = SimDisk::new(40);
    let mut heard = Vec::new();
    let mut position = Sequence(1);
    let mut id = 0;
    for round in 0..6 {
        let (store, _) = open_sim(&disk).unwrap();
        let mut frames = store.frames(position);
        for step in 0..60 {
            let text = "t".repeat(300);
            let _outcome = store.commit(put(&[note(id, 1, &text)])).await.unwrap();
            id += 1;
            // Sometimes close behind, sometimes far.
            if (step + round) % 7 == 0 {
                take(&mut frames, 5, &mut heard);
            }
            if step % 20 == 19 {
                // Dropped; another goes on where it was.
                position = frames.position();
                frames = store.frames(position);
            }
        }
        position = frames.position();
        store.close().await.unwrap();
    }
    let (store, _) = open_sim(&disk).unwrap();
    assert!(store.stats().segments >= 12, "{:?}", store.stats());
    let mut frames = store.frames(position);
    take(&mut frames, usize::MAX, &mut heard);
    assert_eq!(frames.position(), store.last_sequence().next());
    let ids: Vec<u64> = heard.iter().map(|(_, id)| *id).collect();
    assert_eq!(ids, (0..id).collect::<Vec<_>>());
    assert!(heard.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[tokio::test]
async fn a_follower_waits_without_asking() {
    let disk = SimDisk::new(41);
    let (store, _) = open_sim(&disk).unwrap();
    let mut frames = store.frames(Sequence(1));
    let follower = tokio::spawn(async move {
        let mut heard = Vec::new();
        while heard.len() < 40 {
            heard.push(frames.next().await.unwrap().sequence.0);
        }
        heard
    });
    let mut last = store.watch();
    for id in 0..40 {
        let _outcome = store.commit(put(&[note(id, 1, "x")])).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(follower.await.unwrap(), (1..=40).collect::<Vec<_>>());
    assert_eq!(*last.borrow_and_update(), Sequence(40));
}

#[tokio::test]
async fn a_wait_that_is_broken_off_takes_nothing() {
    let disk = SimDisk::new(42);
    let (store, _) = open_sim(&disk).unwrap();
    let mut frames = store.frames(Sequence(1));
    let mut heard = Vec::new();
    for id in 0..20 {
        // Dropped while it waits, and again when a read may be under way.
        assert!(poll_once(frames.next()).await.is_none());
        let _outcome = store.commit(put(&[note(id, 1, "x")])).await.unwrap();
        if let Some(frame) = poll_once(frames.next()).await {
            heard.push(frame.unwrap().sequence.0);
        } else {
            heard.push(frames.next().await.unwrap().sequence.0);
        }
    }
    assert_eq!(heard, (1..=20).collect::<Vec<_>>());
}

/// Polls a future once and drops it; what it came to, if it was ready.
async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
