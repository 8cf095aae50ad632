import java.time.Duration;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;

/**
 * A process of a service, as Curator's users write it: registers instances, or queues for an election. On SIGTERM it
 * leaves in order; on SIGKILL its session has to expire.
 *
 * Arguments: the connect string, the session timeout in milliseconds, and then either
 * {@code register BASE SERVICE HOST PORT...} or {@code latch PATH ID}.
 */
public final class Registrar {
    public static void main(String[] arguments) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(
                arguments[0], Integer.parseInt(arguments[1]), 10_000, new ExponentialBackoffRetry(100, 20));
        client.start();
        client.blockUntilConnected();
        switch (arguments[2]) {
            case "register" -> register(client, arguments);
            case "latch" -> latch(client, arguments[3], arguments[4]);
            default -> throw new IllegalArgumentException(arguments[2]);
        }
        Thread.sleep(Duration.ofHours(1).toMillis());
    }

    private static void register(CuratorFramework client, String[] arguments) throws Exception {
        ServiceDiscovery<Void> discovery =
                ServiceDiscoveryBuilder.builder(Void.class).client(client).basePath(arguments[3]).build();
        discovery.start();
        for (int at = 6; at < arguments.length; at++) {
            discovery.registerService(ServiceInstance.<Void>builder()
                    .name(arguments[4])
                    .address(arguments[5])
                    .port(Integer.parseInt(arguments[at]))
                    .build());
        }
        atEnd(() -> {
            discovery.close();
            client.close();
        });
        System.out.println("registered");
    }

    private static void latch(CuratorFramework client, String path, String id) throws Exception {
        LeaderLatch latch = new LeaderLatch(client, path, id);
        latch.start();
        atEnd(() -> {
            latch.close();
            client.close();
        });
        System.out.println("queued");
        latch.await();
        System.out.println("leads");
    }

    private interface Leaving {
        void leave() throws Exception;
    }

    private static void atEnd(Leaving leaving) {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                leaving.leave();
            } catch (Exception error) {
                error.printStackTrace();
            }
        }));
    }
}
