package com.acme;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.apache.dubbo.common.URL;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.registry.Registry;
import org.apache.dubbo.registry.RegistryFactory;
import org.apache.dubbo.rpc.model.ApplicationModel;

/**
 * A provider as Dubbo's users write it, which registers its interface and its application. On SIGTERM it leaves in
 * order; on SIGKILL its session has to expire.
 *
 * Arguments: the connect string, the session timeout in milliseconds, the application, the value of a secret parameter,
 * the port, and a folder. When the file {@code more} appears there, it provides a second interface. It registers the
 * parameters in each file {@code rule-1}, {@code rule-2} and so on as an override of the first interface, as the
 * administrators of Dubbo do.
 */
public final class Provider {
    private static final int LOOK_MILLIS = 20;

    public static void main(String[] arguments) throws Exception {
        String registry = "zookeeper://" + arguments[0] + "?session=" + arguments[1];
        ApplicationConfig application = new ApplicationConfig(arguments[2]);
        application.setQosEnable(false);
        ProtocolConfig protocol = new ProtocolConfig("dubbo", Integer.parseInt(arguments[4]));
        protocol.setParameters(Map.of("accesskey", arguments[3]));
        Path folder = Path.of(arguments[5]);
        DubboBootstrap bootstrap = DubboBootstrap.getInstance();
        bootstrap.application(application).registry(new RegistryConfig(registry)).protocol(protocol);
        bootstrap.service(service(Payments.class, amount -> "paid " + amount)).start();
        System.out.println("registered Payments");
        boolean hasMore = false;
        for (int rule = 1; ; Thread.sleep(LOOK_MILLIS)) {
            if (!hasMore && Files.exists(folder.resolve("more"))) {
                hasMore = true;
                ServiceConfig<Refunds> refunds = service(Refunds.class, amount -> "refunded " + amount);
                bootstrap.service(refunds);
                refunds.export();
                System.out.println("registered Refunds");
            }
            Path file = folder.resolve("rule-" + rule);
            if (Files.exists(file)) {
                override(registry, Files.readString(file).strip());
                System.out.println("registered rule " + rule++);
            }
        }
    }

    private static <T> ServiceConfig<T> service(Class<T> type, T implementation) {
        ServiceConfig<T> service = new ServiceConfig<>();
        service.setInterface(type);
        service.setRef(implementation);
        service.setVersion("1.0.0");
        service.setGroup("blue");
        service.setWeight(100);
        return service;
    }

    private static void override(String address, String parameters) {
        RegistryFactory factories = ApplicationModel.defaultModel()
                .getExtensionLoader(RegistryFactory.class)
                .getAdaptiveExtension();
        Registry registry = factories.getRegistry(URL.valueOf(address));
        registry.register(URL.valueOf("override://0.0.0.0/" + Payments.class.getName()
                + "?category=configurators&dynamic=false&group=blue&version=1.0.0&" + parameters));
    }
}

interface Payments {
    String pay(int amount);
}

interface Refunds {
    String refund(int amount);
}
