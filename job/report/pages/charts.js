"use strict";
/** The pictures of one survey but for its cloud, in order. */
const charts = (() => {
  /** Draws all pictures into `container`; `onPick` gets the ids of the tokens that a reader picks. */
  function draw(container, survey, { onPick } = {}) {
    const named = members.named(survey);
    for (const chart of [normsChart, populationsChart, makeupChart, distancesChart]) {
      chart.draw(container, named, onPick);
    }
  }

  return { draw };
})();
