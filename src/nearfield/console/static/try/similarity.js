// How alike vectors are: one measure for each kind of output.

const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);
const norm = (a) => Math.sqrt(dot(a, a)) || 1;
const cosine = (a, b) => dot(a, b) / (norm(a) * norm(b));

/** Mean over the tokens of `a` of the most alike token of `b`. */
const latest = (a, b) => a.reduce((sum, row) => sum + Math.max(...b.map((other) => cosine(row, other))), 0) / (a.length || 1);

function shared(a, b) {
  const weights = new Map(b.indices.map((index, place) => [index, b.values[place]]));
  return a.indices.reduce((sum, index, place) => sum + a.values[place] * (weights.get(index) ?? 0), 0);
}

const sparseNorm = (a) => Math.sqrt(shared(a, a)) || 1;

/** The kinds of outputs in the order in which they are preferred: a name for the user, and the measure. */
export const MEASURES = {
  dense: ["cosine", cosine],
  multivector: ["mean of the best cosine of each token (MaxSim)", latest],
  sparse: ["cosine of the weights", (a, b) => shared(a, b) / (sparseNorm(a) * sparseNorm(b))],
};

export function matrix(rows, measure) {
  return rows.map((row) => rows.map((other) => measure(row, other)));
}
