{% if execute %}{{ exceptions.raise_compiler_error("Schöne Fehler:\n\tzwei Zeilen, 100 %, 'quoted' \"twice\"") }}{% endif %}
select 1 as id
