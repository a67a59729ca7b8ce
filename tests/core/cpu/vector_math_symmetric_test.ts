import { erf } from "../../../core/scalars.ts";
import { testOverFloats } from "./floats.ts";

testOverFloats("sin", (x, y) => {
  for (let i = 0; i < x.length; i++) y[i] = Math.sin(x[i]!);
}, { ulps: 2.5, symmetry: "odd" });
testOverFloats("cos", (x, y) => {
  for (let i = 0; i < x.length; i++) y[i] = Math.cos(x[i]!);
}, { ulps: 2.5, symmetry: "even" });
testOverFloats("tanh", (x, y) => {
  for (let i = 0; i < x.length; i++) y[i] = Math.tanh(x[i]!);
}, { ulps: 3, symmetry: "odd" });
testOverFloats("erf", (x, y) => {
  for (let i = 0; i < x.length; i++) y[i] = erf(x[i]!);
}, { ulps: 3, symmetry: "odd" });

// One instruction each.
testOverFloats("sqrt", (x, y) => {
  for (let i = 0; i < x.length; i++) y[i] = Math.sqrt(x[i]!);
}, { ulps: 0.5, step: 5 });
testOverFloats("floor", (x, y) => {
  for (let i = 0; i < x.length; i++) y[i] = Math.floor(x[i]!);
}, { ulps: 0, step: 5 });
testOverFloats("sign", (x, y) => {
  for (let i = 0; i < x.length; i++) y[i] = Math.sign(x[i]!);
}, { ulps: 0, symmetry: "odd", step: 5 });
testOverFloats("abs", (x, y) => {
  for (let i = 0; i < x.length; i++) y[i] = Math.abs(x[i]!);
}, { ulps: 0, symmetry: "even", step: 5 });
testOverFloats("neg", (x, y) => {
  for (let i = 0; i < x.length; i++) y[i] = -x[i]!;
}, { ulps: 0, symmetry: "odd", step: 5 });
