//! Real ZooKeeper and Kafka servers and a faulty network, for tests and the demo.
