// One token from logits and one random number, with the roundings of seqgen/sampling: filters in float32, the draw in float64.

export interface Sampling {
  temperature: number; // 0: the most likely token
  top_k: number; // 0: all
  top_p: number; // 1: all
  min_p: number; // 0: all
}

export const NEUTRAL: Sampling = { temperature: 1, top_k: 0, top_p: 1, min_p: 0 };

const LOWEST = Math.fround(-1e30); // what NaN and lower logits become: drawn where nothing else may be
const SMALLEST_TEMPERATURE = 1e-6;

const round = Math.fround;

/** The token that `number`, from 0 to below 1, draws from the allowed ones. */
export function choose(
  logits: Float32Array,
  allowed: Uint8Array,
  sampling: Sampling,
  number: number,
): number {
  const temperature = round(Math.max(sampling.temperature, SMALLEST_TEMPERATURE));
  const scores = logits.map((logit, id) => {
    const bounded = Number.isNaN(logit) ? LOWEST : Math.min(Math.max(logit, LOWEST), -LOWEST);
    return allowed[id] ? bounded : -Infinity;
  });
  if (sampling.temperature === 0) return scores.indexOf(largestOf(scores));
  const kept = scores.map((score) => round(score / temperature));
  keepTopKAndP(kept, sampling.top_k, round(sampling.top_p));
  keepMinP(kept, round(sampling.min_p));
  return draw(kept, number);
}

/** Keep the k most likely (0: all), then of these the fewest whose probabilities reach p. */
function keepTopKAndP(logits: Float32Array, k: number, p: number): void {
  if (k === 0 && p >= 1) return;
  const ordered = logits.slice().sort().reverse();
  const kth = k > 0 ? (ordered[Math.min(k, ordered.length) - 1] as number) : -Infinity;
  removeBelow(logits, p < 1 ? Math.max(kth, nucleusEnd(ordered, kth, p)) : kth);
}

/** The smallest of falling logits that the fewest with probability p include. */
function nucleusEnd(ordered: Float32Array, kth: number, p: number): number {
  const largest = ordered[0] as number;
  const weights = ordered.map((x) => (x < kth ? 0 : round(Math.exp(round(x - largest)))));
  const sum = round(weights.reduce((total, weight) => total + weight, 0));
  let reached = 0;
  let end = largest;
  for (const [i, weight] of weights.entries()) {
    const share = round(weight / sum);
    reached += share;
    if (round(round(reached) - share) >= p) break;
    end = ordered[i] as number;
  }
  return end;
}

/** Keep those at least `minP` times as likely as the most likely. */
function keepMinP(logits: Float32Array, minP: number): void {
  if (minP > 0) removeBelow(logits, round(largestOf(logits) + round(Math.log(minP))));
}

function removeBelow(logits: Float32Array, bound: number): void {
  for (let id = 0; id < logits.length; id += 1) {
    if ((logits[id] as number) < bound) logits[id] = -Infinity;
  }
}

/** Draw by the inverse of the cumulative distribution; never a token of probability 0. */
function draw(logits: Float32Array, number: number): number {
  const largest = largestOf(logits);
  const weights = Float64Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  const probabilities = weights.map((weight) => weight / sum);
  const all = probabilities.reduce((total, probability) => total + probability, 0);
  let reached = 0;
  return probabilities.findIndex((probability) => {
    reached += probability;
    return probability > 0 && reached > number * all;
  });
}

/** log p of a token under the softmax of all logits, in nats. */
export function logLikelihood(logits: Float32Array, id: number): number {
  const largest = largestOf(logits);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
  return (logits[id] as number) - largest - Math.log(sum);
}

function largestOf(values: Float32Array): number {
  return values.reduce((largest, value) => Math.max(largest, value), -Infinity);
}
