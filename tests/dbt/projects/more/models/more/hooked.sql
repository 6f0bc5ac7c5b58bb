{{ config(pre_hook="select 1 as before_it", post_hook="select 2 as after_it") }}
select 1 as id
