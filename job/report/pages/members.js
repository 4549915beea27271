"use strict";
/** Which tokens each hole holds, and the names of what tokens are. Touches no document. */
const members = (() => {
  const known = new WeakMap();

  function counted(hole) {
    let last = 0;
    for (let id = 0; id < hole.length; id += 1) if (hole[id] > last) last = hole[id];
    const begins = new Int32Array(last + 2);
    for (let id = 0; id < hole.length; id += 1) if (hole[id] > 0) begins[hole[id] + 1] += 1;
    for (let at = 1; at < begins.length; at += 1) begins[at] += begins[at - 1];
    const next = begins.slice();
    const ids = new Int32Array(begins[last + 1]);
    for (let id = 0; id < hole.length; id += 1)
      if (hole[id] > 0) {
        ids[next[hole[id]]] = id;
        next[hole[id]] += 1;
      }
    return { begins, ids };
  }

  function of(survey) {
    if (!known.has(survey.hole)) known.set(survey.hole, counted(survey.hole));
    const { begins, ids } = known.get(survey.hole);
    return {
      /** Token ids of a hole, ascending. */
      hole: (number) => ids.subarray(begins[number] ?? ids.length, begins[number + 1] ?? ids.length),
      /** Token ids of all holes, hole by hole. */
      all: () => ids,
    };
  }

  /** The survey with a name for each code: the code after the last name stands for none. */
  const named = (survey) => ({
    ...survey,
    classNames: [...(survey.classNames ?? []), "no class"],
    scriptNames: [...(survey.scriptNames ?? []), "no script"],
  });

  return { of, named };
})();
