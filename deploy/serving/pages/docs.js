// Show the server's OpenAPI document in Swagger UI.
import { currentKey, enter, request } from "./access.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const dress = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", dress);
dress();

enter(async () => {
  const spec = await request("openapi.json");
  // A proxy may serve this page below another path.
  const below = new URL(".", location.href).pathname.replace(/\/$/, "");
  if (below) spec.servers = [{ url: below }];
  const ui = SwaggerUIBundle({
    spec,
    dom_id: "#swagger",
    deepLinking: true,
    validatorUrl: null,
    tryItOutEnabled: true,
    defaultModelsExpandDepth: 0,
    onComplete: () => { if (currentKey()) ui.preauthorizeApiKey("key", currentKey()); },
  });
});
