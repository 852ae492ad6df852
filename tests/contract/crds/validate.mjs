// Reads {"kind": ..., "spec": ...} on standard input; prints what is wrong with the spec, as a list.
import { readFileSync } from "node:fs";

const { kind, spec } = JSON.parse(readFileSync(0, "utf8"));
const schemas = new URL("node_modules/@kubernetes-models/prometheus-operator/_schemas/", import.meta.url);
const name = `ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoringV1${kind}Spec.js`;
const { validate } = await import(new URL(name, schemas));
validate(spec);
console.log(JSON.stringify(validate.errors ?? []));
