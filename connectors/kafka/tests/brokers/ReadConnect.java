// Reads values as a sink connector does: with the JsonConverter of Kafka Connect and its schemas. Prints for each the name
// of its struct, and the struct as JSON without a schema.

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.Map;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.json.JsonConverter;

public class ReadConnect {
    public static void main(String[] arguments) throws Exception {
        JsonConverter withSchemas = new JsonConverter();
        withSchemas.configure(Map.of("schemas.enable", "true"), false);
        JsonConverter plain = new JsonConverter();
        plain.configure(Map.of("schemas.enable", "false"), false);
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            byte[] value = line.equals("null") ? null : Base64.getDecoder().decode(line);
            SchemaAndValue read = withSchemas.toConnectData("topic", value);
            if (read.value() == null) {
                System.out.println("null");
                continue;
            }
            byte[] json = plain.fromConnectData("topic", read.schema(), read.value());
            System.out.println(
                    read.schema().name() + " " + read.schema().version() + " " + new String(json, StandardCharsets.UTF_8));
        }
    }
}
