-- How learning went: ten points of the curve.
SELECT step, tokens, round(fvu, 4) AS fvu, l0, dead, round(loss, 4) AS loss, round(aux_loss, 4) AS aux_loss, lr
FROM (SELECT *, ntile(10) OVER (ORDER BY step) AS tenth FROM train_metrics)
QUALIFY row_number() OVER (PARTITION BY tenth ORDER BY step DESC) = 1
ORDER BY step;
