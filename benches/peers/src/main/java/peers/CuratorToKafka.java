package peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.CuratorCacheStorage;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.zookeeper.data.Stat;

/**
 * Changes below a znode into a Kafka topic, as a careful user would write it with Curator: one {@code CuratorCache} over
 * the subtree, which arms a persistent recursive watch and reads what changed, and an idempotent producer.
 *
 * <p>It keeps Stats but no values ({@code dataNotCached}), as nothing here needs the old ones; listeners run on the
 * client's own thread, so that the order of each znode stays; one thread waits for nothing.
 *
 * <p>Arguments: servers, root, brokers, topic, linger in ms, compression. It prints {@code ready} when all that was there
 * is durable in the topic, and follows until it is ended.
 */
public final class CuratorToKafka {
    /** As the bridge's own default, in ms. */
    private static final int SESSION_MS = 10_000;

    private static final int CONNECT_MS = 10_000;
    private static final int RETRY_FIRST_MS = 100;
    private static final int RETRIES = 29;

    private static final JsonFactory JSON = new JsonFactory();

    private final KafkaProducer<String, byte[]> producer;
    private final String topic;
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream(1024);

    private CuratorToKafka(KafkaProducer<String, byte[]> producer, String topic) {
        this.producer = producer;
        this.topic = topic;
    }

    public static void main(String[] args) throws Exception {
        String servers = args[0];
        String root = args[1];
        CountDownLatch listed = new CountDownLatch(1);
        try (KafkaProducer<String, byte[]> producer = producer(args[2], args[4], args[5]);
                CuratorFramework client =
                        CuratorFrameworkFactory.builder()
                                .connectString(servers)
                                .sessionTimeoutMs(SESSION_MS)
                                .connectionTimeoutMs(CONNECT_MS)
                                .retryPolicy(new ExponentialBackoffRetry(RETRY_FIRST_MS, RETRIES, SESSION_MS))
                                .build();
                CuratorCache cache =
                        CuratorCache.builder(client, root)
                                .withStorage(CuratorCacheStorage.dataNotCached())
                                .build()) {
            CuratorToKafka bridge = new CuratorToKafka(producer, args[3]);
            client.start();
            client.blockUntilConnected(CONNECT_MS, TimeUnit.MILLISECONDS);
            cache.listenable().addListener(bridge.listener(listed));
            cache.start();
            listed.await();
            producer.flush();
            System.out.println("ready");
            System.out.flush();
            new CountDownLatch(1).await();
        }
    }

    private static KafkaProducer<String, byte[]> producer(String brokers, String linger, String compression) {
        Properties properties = new Properties();
        properties.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        properties.put(ProducerConfig.ACKS_CONFIG, "all");
        properties.put(ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, "true");
        properties.put(ProducerConfig.LINGER_MS_CONFIG, linger);
        properties.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, compression);
        return new KafkaProducer<>(properties, new StringSerializer(), new ByteArraySerializer());
    }

    private CuratorCacheListener listener(CountDownLatch listed) {
        return new CuratorCacheListener() {
            private boolean isListed;

            @Override
            public void event(Type type, ChildData before, ChildData after) {
                switch (type) {
                    case NODE_CREATED -> send(isListed ? "create" : "snapshot", after);
                    case NODE_CHANGED -> send("update", after);
                    case NODE_DELETED -> sendDelete(before);
                    default -> throw new IllegalStateException("an event of an unknown type: " + type);
                }
            }

            @Override
            public void initialized() {
                isListed = true;
                listed.countDown();
            }
        };
    }

    private void send(String op, ChildData znode) {
        Stat stat = znode.getStat();
        bytes.reset();
        try (JsonGenerator json = JSON.createGenerator(bytes)) {
            json.writeStartObject();
            json.writeStringField("path", znode.getPath());
            json.writeStringField("op", op);
            json.writeStringField("zxid", zxid(stat.getMzxid()));
            json.writeObjectFieldStart("after");
            json.writeObjectFieldStart("data");
            json.writeStringField("encoding", "utf8");
            json.writeNumberField("size", znode.getData().length);
            json.writeStringField("value", new String(znode.getData(), StandardCharsets.UTF_8));
            json.writeEndObject();
            writeStat(json, stat);
            json.writeEndObject();
            json.writeEndObject();
        } catch (IOException impossible) {
            throw new IllegalStateException("memory cannot fail to be written", impossible);
        }
        deliver(znode.getPath());
    }

    private void sendDelete(ChildData znode) {
        bytes.reset();
        try (JsonGenerator json = JSON.createGenerator(bytes)) {
            json.writeStartObject();
            json.writeStringField("path", znode.getPath());
            json.writeStringField("op", "delete");
            json.writeNullField("after");
            json.writeEndObject();
        } catch (IOException impossible) {
            throw new IllegalStateException("memory cannot fail to be written", impossible);
        }
        deliver(znode.getPath());
    }

    private static void writeStat(JsonGenerator json, Stat stat) throws IOException {
        json.writeObjectFieldStart("stat");
        json.writeStringField("czxid", zxid(stat.getCzxid()));
        json.writeStringField("mzxid", zxid(stat.getMzxid()));
        json.writeStringField("pzxid", zxid(stat.getPzxid()));
        json.writeNumberField("ctime", stat.getCtime());
        json.writeNumberField("mtime", stat.getMtime());
        json.writeNumberField("version", stat.getVersion());
        json.writeNumberField("cversion", stat.getCversion());
        json.writeNumberField("aversion", stat.getAversion());
        json.writeStringField("ephemeralOwner", zxid(stat.getEphemeralOwner()));
        json.writeNumberField("dataLength", stat.getDataLength());
        json.writeNumberField("numChildren", stat.getNumChildren());
        json.writeEndObject();
    }

    private static String zxid(long zxid) {
        String digits = Long.toHexString(zxid);
        return "0x" + "0".repeat(16 - digits.length()) + digits;
    }

    private void deliver(String path) {
        producer.send(
                new ProducerRecord<>(topic, path, bytes.toByteArray()),
                (metadata, error) -> {
                    if (error != null) {
                        System.err.println("a message was refused: " + error);
                        Runtime.getRuntime().halt(1);
                    }
                });
    }
}
