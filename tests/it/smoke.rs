#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_runs() {
    let t = std::time::Instant::now();
    let network = crate::support::Setup::federation(2).start().await;
    println!("started {:?}", t.elapsed());
    let record = network.record(network.sample.scenario.cross_region, 0).clone();
    network.feed(&record).await;
    network.stop().await;
    println!("stopped {:?}", t.elapsed());
}
