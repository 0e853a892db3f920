// NiceGUI registers this file; the modules behind the name have an address that changes with their content.
export { default } from "visionops-review";
