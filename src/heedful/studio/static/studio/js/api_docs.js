// Starts Swagger UI on the settings in the page. It is a file of its own because the page allows no inline script.
"use strict";

const settings = JSON.parse(document.getElementById("swagger-settings").textContent);
SwaggerUIBundle({ ...settings, dom_id: "#swagger-ui", presets: [SwaggerUIBundle.presets.apis] });
